"""`paymesh completion`: scripts that a shell accepts, and that complete what the command line has."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from paymesh.cli.completion import SHELLS
from paymesh.cli.main import main


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shells_script_knows_every_verb(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("set-weight", "release", "simulate", "payments-per-second", "drill"):
        assert word in script


def test_bash_accepts_it_and_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "paymesh.bash"
    script.write_text(capsys.readouterr().out)
    subprocess.run(["bash", "-n", str(script)], check=True)
    (tmp_path / "trade.yaml").touch()
    asked = f"""
source {script}
complete_words() {{
    COMP_WORDS=("$@"); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 )); COMPREPLY=()
    _shtab_paymesh paymesh "${{COMP_WORDS[COMP_CWORD]}}"; echo "${{COMPREPLY[*]}}"
}}
complete_words paymesh rel
complete_words paymesh release un
complete_words paymesh release get x -o ''
complete_words paymesh release apply -f tra
"""
    said = subprocess.run(["bash"], input=asked, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert said.splitlines() == ["release", "undo", "table json", "trade.yaml"]


def test_an_unknown_shell_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "elvish"])
    assert ended.value.code == 2
    assert "bash" in capsys.readouterr().err
