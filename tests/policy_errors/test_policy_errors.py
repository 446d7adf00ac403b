"""One bad document an error: each file in documents/ begins with the problems that it must give, all at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.problems import PolicyErrors

DOCUMENTS = sorted((Path(__file__).parent / "documents").glob("*.yaml"))
_EXPECT = re.compile(r"^# expect: (.+)$", re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_every_problem_is_named_with_its_place(document: Path) -> None:
    expected = _EXPECT.findall(document.read_text())
    assert expected, f"{document} says nothing of what is wrong with it"
    with pytest.raises(PolicyErrors) as caught:
        load_policy([document], {})
    problems = [str(problem) for problem in caught.value.problems]
    for line in expected:
        wanted = f"{document}:{line}"
        assert any(problem.startswith(wanted) for problem in problems), f"{wanted!r} is not in\n" + "\n".join(problems)
    assert len(problems) == len(expected), "\n".join(problems)


def test_a_secret_in_the_policy_is_not_repeated_in_the_error() -> None:
    with pytest.raises(PolicyErrors) as caught:
        load_policy([Path(__file__).parent / "documents" / "inline_secret.yaml"], {})
    assert "does not belong" not in str(caught.value)


VALUE = "S3CR3Tvalue99"


@pytest.mark.parametrize(
    "written",
    [
        VALUE, f'"{VALUE}"', f"*{VALUE}", f"&{VALUE} x", f"!{VALUE} x", f"%{VALUE}", f"@{VALUE}", f"[{VALUE}]",
        f"{{{VALUE}: 1}}", f"{{{VALUE}}}", f"{{env: {VALUE}-x}}", f'"{VALUE}', f"{VALUE}: {VALUE}", f"|{VALUE}",
        f"{{<<: {VALUE}}}", f"{{? [{VALUE}] : 1}}", f'"\\{VALUE}"', "1234567.8912", "{env: 12345678912}",
    ],
)  # fmt: skip
def test_a_secret_in_clear_is_not_repeated_however_it_is_written(written: str, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    credential = f"- {{scheme: hmac, key_id: k, secret: {written}}}"
    file.write_text(f"merchants:\n  - id: shop\n    credentials:\n      {credential}\nroutes: []\n")
    with pytest.raises(PolicyErrors) as caught:
        load_policy([file], {})
    assert not any(value in str(caught.value) for value in (VALUE, "1234567.8912", "12345678912"))


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyErrors, match="no policy file"):
        load_policy([tmp_path], {})
    with pytest.raises(PolicyErrors, match="cannot be read"):
        load_policy([tmp_path / "gone.yaml"], {})
