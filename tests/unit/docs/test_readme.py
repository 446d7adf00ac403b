"""README.md against the code: what it promises to callers and operators is there."""

from __future__ import annotations

import re
from pathlib import Path

from control_plane.resources.local_replies import REASONS
from paymesh.cli.demo.command import UNSHIFTED
from paymesh.payments.denial import Reason

REPOSITORY = Path(__file__).resolve().parents[3]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_every_reason_that_a_caller_may_see_is_explained() -> None:
    missing = [reason for reason in {*map(str, Reason), *REASONS} if f"`{reason}`" not in README]
    assert not missing


def test_the_number_of_scenarios_is_the_demos() -> None:
    count = len(UNSHIFTED) + 2  # and the two that shift traffic
    assert f"`demo: {count} of {count} as expected`" in README


def test_links_lead_somewhere() -> None:
    for document in (REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
