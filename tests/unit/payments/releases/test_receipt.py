"""A receipt tells who, why, when and how much of every way that a release can end, and people's words stay words."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.releases.analysis import Verdict
from paymesh.payments.releases.exposure import Exposure
from paymesh.payments.releases.history import Entry, end_of
from paymesh.payments.releases.plan import Gate, Hold, Kind, Plan, SetPins, SetWeight
from paymesh.payments.releases.receipt import receipt
from paymesh.payments.releases.state import (
    Applied,
    Begin,
    Command,
    Event,
    HooksTold,
    Judged,
    Phase,
    State,
    Tick,
    Told,
    advance,
)
from paymesh.payments.releases.traffic import Pin

BEGAN_S = 1_800_000_000
"""2027-01-15T08:00:00Z"""
STEPS = (SetPins((Pin("merchant", "", "lab", "v2"),)), SetWeight(1_000), Hold(60), Gate())
PLAN = Plan("trade-v2", "trade", Kind.CANARY, "v1", "v2", STEPS)
EXPOSED = {
    "v1": Exposure(900, 3, 800, 2, {"CNY": 88_800}),
    "v2": Exposure(100, 1, 90, 1, {"CNY": 8_888, "JPY": 500}),
}
OURS = "paymesh"


class Run:
    """A release through `advance`, with the history that the store would keep of it."""

    def __init__(self, plan: Plan = PLAN, who: str = "ann", why: str = "CHG-1") -> None:
        self.plan, self.now_s = plan, BEGAN_S
        self.entries: list[Entry] = []
        self.begin(who, why)

    def begin(self, who: str, why: str) -> None:
        self.state = advance(self.plan, State(), Begin(True, self.now_s))
        self.entries.append(Entry(self.now_s, who, why, None, self.state))

    def happens(self, event: Event, who: str, what: str) -> None:
        before, self.state = self.state, advance(self.plan, self.state, event)
        if self.state != before:
            self.entries.append(Entry(self.now_s, who, what, before, self.state))

    def confirm(self) -> None:
        self.now_s += 1
        self.happens(Applied(self.state.seq, self.now_s), OURS, "every node has the traffic asked for")

    def tell(self, command: Command, who: str, why: str) -> None:
        self.now_s += 1
        self.happens(Told(command, who, why, self.now_s), who, f"{command}: {why}")

    def to_the_hold(self) -> None:
        self.confirm()
        self.confirm()
        assert self.state.phase is Phase.HOLDING

    def to_the_end(self) -> None:
        self.to_the_hold()
        self.now_s += 60
        self.happens(Tick(self.now_s), OURS, "the hold is over")
        self.tell(Command.PROMOTE, "bob", "looks good")
        self.confirm()
        assert self.state.phase is Phase.PROMOTED

    def fails(self) -> None:
        self.now_s += 1
        failed = Judged(Verdict.FAIL, "success: worse by 3.00% at least", self.state.step, self.now_s)
        self.happens(failed, "analysis", f"fail: {failed.why}")

    @property
    def receipt(self) -> str:
        return receipt(self.plan, self.entries, EXPOSED)


def test_a_promoted_one_is_told_whole() -> None:
    run = Run()
    run.to_the_end()
    assert (
        run.receipt
        == """\
# Release trade-v2: promoted

- Service trade, from v1 to v2 (canary)
- Begun 2027-01-15T08:00:00Z by ann: CHG-1
- Ended 2027-01-15T08:01:04Z: every step is done
- Steps: merchant lab, weight 10.00%, hold 1m, gate

## Exposed

| Version | Requests | Errors | Payments | Failed | Amount |
|---|---:|---:|---:|---:|---:|
| v1 | 900 | 3 | 800 | 2 | 888.00 CNY |
| v2 | 100 | 1 | 90 | 1 | 88.88 CNY, 500 JPY |

## Weights

| Set | Confirmed | Weight | Phase | Step |
|---|---|---:|---|---:|
| 2027-01-15T08:00:00Z | 2027-01-15T08:00:01Z | 0.00% | applying | 1/4 |
| 2027-01-15T08:00:01Z | 2027-01-15T08:00:02Z | 10.00% | applying | 2/4 |
| 2027-01-15T08:01:03Z | 2027-01-15T08:01:04Z | 100.00% | promoting | 4/4 |

## What happened

| When | Who | What | Then |
|---|---|---|---|
| 2027-01-15T08:00:00Z | ann | CHG-1 | applying |
| 2027-01-15T08:00:01Z | paymesh | every node has the traffic asked for | applying |
| 2027-01-15T08:00:02Z | paymesh | every node has the traffic asked for | holding |
| 2027-01-15T08:01:02Z | paymesh | the hold is over | gated |
| 2027-01-15T08:01:03Z | bob | promote: looks good | promoting |
| 2027-01-15T08:01:04Z | paymesh | every node has the traffic asked for | promoted |
"""
    )


def test_one_under_way_has_not_ended_and_shows_what_no_node_has() -> None:
    run = Run()
    run.confirm()
    assert "# Release trade-v2: applying\n" in run.receipt
    assert "- Last change 2027-01-15T08:00:01Z: every node has the traffic asked for\n" in run.receipt
    assert "| 2027-01-15T08:00:01Z | never | 10.00% | applying | 2/4 |\n" in run.receipt


def test_one_that_went_back_says_what_failed() -> None:
    run = Run()
    run.to_the_hold()
    run.fails()
    assert "# Release trade-v2: rolling back\n" in run.receipt
    run.confirm()
    assert "# Release trade-v2: rolled back\n" in run.receipt
    assert "- Ended 2027-01-15T08:00:04Z: success: worse by 3.00% at least\n" in run.receipt
    assert weights(run) == ["0.00%", "10.00%", "0.00%"]
    assert "| analysis | fail: success: worse by 3.00% at least | rolling_back |\n" in run.receipt


def test_one_that_was_undone_tells_the_promotion_and_the_way_back() -> None:
    run = Run()
    run.to_the_end()
    run.tell(Command.UNDO, "eve", "complaints")
    run.confirm()
    assert "# Release trade-v2: rolled back\n" in run.receipt
    assert "- Ended 2027-01-15T08:01:06Z: complaints\n" in run.receipt
    assert "| eve | undo: complaints | rolling_back |\n" in run.receipt
    assert weights(run) == ["0.00%", "10.00%", "100.00%", "0.00%"]


def test_one_that_was_tried_again_is_one_run() -> None:
    run = Run()
    run.to_the_hold()
    run.fails()
    run.confirm()
    run.tell(Command.RETRY, "bob", "mended")
    run.to_the_end()
    assert "by ann: CHG-1\n" in run.receipt
    assert "| analysis | fail:" in run.receipt
    assert weights(run) == ["0.00%", "10.00%", "0.00%", "0.00%", "10.00%", "100.00%"]
    assert "never" not in run.receipt


def test_a_second_run_of_the_same_name_is_told_alone() -> None:
    run = Run()
    run.to_the_end()
    run.now_s += 3_600
    run.begin("bob", "CHG-2")
    run.to_the_hold()
    assert "- Begun 2027-01-15T09:01:04Z by bob: CHG-2\n" in run.receipt
    assert "ann" not in run.receipt
    assert weights(run) == ["0.00%", "10.00%"]


def test_what_hooks_are_told_afterwards_does_not_make_the_end_later() -> None:
    run = Run()
    assert end_of(run.entries) is None
    run.to_the_end()
    end = end_of(run.entries)
    run.now_s += 100
    run.happens(HooksTold(run.state.seq), OURS, "hooks of change 3: told")
    assert end_of(run.entries) == end
    assert "- Ended 2027-01-15T08:01:04Z: " in run.receipt
    assert "| hooks of change 3: told | promoted |\n" in run.receipt
    run.tell(Command.UNDO, "eve", "complaints")
    assert end_of(run.entries) is None


def test_of_what_nobody_used_it_says_so() -> None:
    run = Run()
    assert "| v2 | 0 | 0 | 0 | 0 | none |\n" in receipt(PLAN, run.entries, {})


def test_a_history_without_its_begin_is_refused() -> None:
    run = Run()
    run.confirm()
    with pytest.raises(ValueError, match="empty"):
        receipt(PLAN, run.entries[1:], EXPOSED)


class TestPeoplesWords:
    @given(st.text(max_size=30), st.text(max_size=30))
    def test_they_break_no_line_and_no_table(self, who: str, why: str) -> None:
        assert shape(words_receipt(who, why)) == shape(words_receipt("ann", "why"))

    @pytest.mark.parametrize(
        ("why", "shown"),
        [
            ("a | b", r"a \| b"),
            ("a\n| b |\r\nc", r"a \| b \|  c"),
            ("\u2028# big\x1b[0m", r" \# big \[0m"),
            (r"a \| b", r"a \\\| b"),
            ("<script>*x*</script>", r"\<script\>\*x\*\</script\>"),
            ("[x](http://x/) `y` _z_ ~~no~~", r"\[x\](http://x/) \`y\` \_z\_ \~\~no\~\~"),
            ("&lt;&#124;", r"\&lt;\&\#124;"),
            ("\u202ereversed", " reversed"),
            ("支付 ¥5", "支付 ¥5"),
        ],
    )
    def test_they_become_no_markup(self, why: str, shown: str) -> None:
        assert f" | promote\\_full: {shown} | promoting |\n" in words_receipt("ann", why)

    def test_nor_do_names_and_pins_of_the_document(self) -> None:
        steps = (SetPins((Pin("header", "x-canary", "a|b\n# c", "v2"),)), SetWeight(1_000))
        told = Run(replace(PLAN, steps=steps)).receipt
        assert r"- Steps: header x-canary=a\|b \# c, weight 10.00%" in told.splitlines()


def words_receipt(who: str, why: str) -> str:
    run = Run(who=who, why=why)
    run.to_the_hold()
    run.tell(Command.PROMOTE_FULL, who, why)
    return run.receipt


def shape(text: str) -> list[tuple[str, int]]:
    """Each line's begin, and the cells' borders in it."""
    lines = text.split("\n")
    assert text.splitlines() == lines[:-1], "no other line breaks"
    return [(line[:2], len(re.findall(r"(?<!\\)(?:\\\\)*\|", line))) for line in lines]


def weights(run: Run) -> list[str]:
    """The third column of the second table."""
    table = run.receipt.split("## Weights")[1].split("##")[0]
    return [line.split(" | ")[2] for line in table.splitlines() if line.startswith("| 2")]
