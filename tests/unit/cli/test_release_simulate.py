"""`paymesh release simulate`: a plan played to its end without any server, the same for the same seed."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from random import Random

import pytest

from paymesh.cli.main import main
from paymesh.cli.release.binomial import binomial
from paymesh.cli.release.simulated_traffic import Behaviour, SimulatedTraffic, World
from paymesh.payments.releases.analysis import Counted

CANARY = """\
release: trade-v2
service: trade
stable: v1
target: v2
steps:
  - weight: 1
  - hold: 5m
  - weight: 25
  - hold: 5m
  - gate: true
  - weight: 50
  - hold: 5m
analysis:
  checks:
    - success: {max_drop: '0.5'}
    - latency: {max_ratio: '1.5', max: 150ms}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written = tmp_path / "trade.yaml"
    written.write_text(CANARY)
    return written


def simulate(file: Path, *arguments: str) -> int:
    return main(["release", "simulate", str(file), *arguments])


def _found(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, object], list[str]]:
    """The end, and what happened."""
    ends = json.loads(capsys.readouterr().out)
    return ends, [moment["what"] for moment in ends.pop("moments")]


def test_a_healthy_version_is_promoted(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(file, "--success", "0.999") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "trade-v2, trade, simulated: v1 99.90% in 100 ms -> v2 99.90% in 100 ms; 100 payments a second, seed 0"
    )
    assert lines[1].split() == ["0:00:00", "1/7", "1.00%", "applying", "weight", "1.00%"]
    assert lines[2].split() == ["0:00:01", "2/7", "1.00%", "holding", "hold", "5m"]
    assert any(" pass: success: stable 99." in line for line in lines)
    assert any("gate: promoted here" in line for line in lines)
    assert lines[-1].startswith("trade-v2: promoted after ")


def test_a_version_that_fails_goes_back_at_its_first_steps(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(file, "--success", "0.95", "-o", "json") == 1
    ends, happened = _found(capsys)
    assert (ends["phase"], ends["release"]) == ("rolled_back", "trade-v2")
    assert any(what.startswith("fail: success: ") for what in happened)
    assert "weight 50.00%" not in happened


def test_a_slow_version_goes_back(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(file, "--success", "0.999", "--latency-ms", "151", "-o", "json") == 1
    _, happened = _found(capsys)
    assert "fail: latency: p99: stable 100 ms, target 151 ms, 150 allowed" in happened
    assert simulate(file, "--success", "0.999", "--latency-ms", "150") == 0


def test_the_same_seed_is_the_same_story(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for seed in ("7", "7", "8"):
        simulate(file, "--success", "0.997", "--seed", seed)
        told.append(capsys.readouterr().out.partition("\n")[2])
    assert told[0] == told[1]
    assert told[1] != told[2]


def test_too_few_payments_have_no_end(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(CANARY.replace("weight: 1\n", "weight: '0.01'\n"))
    assert simulate(file, "--success", "1", "--payments-per-second", "1", "-o", "json") == 3
    ends, happened = _found(capsys)
    assert ends["phase"] == "holding"
    assert happened[-1] == "no end: no pass for 24h beyond the hold"


def test_what_is_not_simulated_is_said(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = (
        "    - counter: {name: refused, outcome: refused, max_rise: 2}\n"
        "    - prometheus: {name: errors, url: 'http://prometheus:9090', query: 'sum(up)', at_most: 1}\n"
        "    - webhook: {name: desk, url: 'https://example.com/desk'}\n"
        "test_merchants: [lab]\ndepends_on: [ledger@v7]\ndrain: 15m\n"
        "hooks: {before: ['http://127.0.0.1:1/before']}\n"
    )
    file.write_text(CANARY + more)
    assert simulate(file, "--success", "0.999", "--pinned", "0.5", "-o", "json") == 0
    _, happened = _found(capsys)
    assert happened[:7] == [
        "depends on ledger v7: taken to have passed",
        "hooks are not called",
        "pins are taken to bring 0.50% of the payments",
        "check refused: every payment that fails is taken to end as refused",
        "check errors: http://prometheus:9090 is not asked; taken to pass",
        "check desk: https://example.com/desk is not asked; taken to pass",
        "merchant lab",
    ]
    assert happened[-3:] == ["orders stay where they began for 15m", "retiring", "promoted"]


def test_a_failure_that_freezes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(CANARY + "on_failure: freeze\n")
    assert simulate(file, "--success", "0.9") == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("trade-v2: frozen after ")


def test_after_the_switch_the_target_is_compared_with_what_the_stable_version_did_last(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, _, analysis = CANARY.partition("steps:")
    preview = "strategy: blue_green\nblue_green: {preview: [{merchants: [lab]}], check: 30s, hold: 10m}\n"
    file.write_text(head + preview + analysis[analysis.index("analysis:") :])
    assert simulate(file, "--success", "0.999", "-o", "json") == 0
    _, happened = _found(capsys)
    assert "weight 100.00%" in happened
    switched = happened.index("weight 100.00%")
    assert any(one.startswith("pass: ") for one in happened[switched:])
    assert happened[-1] == "promoted"


def test_an_isolated_version_stays_isolated(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(CANARY.partition("steps:")[0] + "isolate: true\ntest_merchants: [lab]\n")
    assert simulate(file, "--success", "0.999") == 0
    assert "without analysis nothing is judged" in (shown := capsys.readouterr().out)
    assert shown.splitlines()[-1].startswith("trade-v2: isolated after ")


def test_a_bad_document_is_told_line_by_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(CANARY.replace("stable: v1\n", "").replace("hold: 5m", "hold: soon", 1))
    assert simulate(file, "--success", "0.999") == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(": ")[0].split(" ")[0] for line in lines] == [f"{file}:1:", f"{file}:6:"]
    assert lines[0] == f"{file}:1: stable: is required"


def test_versions_that_are_the_same_are_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(CANARY.replace("target: v2", "target: v1"))
    assert simulate(file, "--success", "0.999") == 2
    assert capsys.readouterr().err == f"{file}:1: stable and target are the same version\n"


def test_from_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"release: x\n")))
    assert simulate(Path("-"), "--success", "0.999") == 2
    assert "-:1: service: is required" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--success", "1.01"],
        ["--success", "nan"],
        ["--success", "97%"],
        ["--success", "1", "--latency-ms", "0"],
        ["--success", "1", "--payments-per-second", "100001"],
        ["--success", "1", "--pinned", "101"],
    ],
)
def test_arguments_that_are_refused(file: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        simulate(file, *arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize("chance", [0.0, 0.001, 0.5, 0.97, 1.0])
def test_binomial_counts_are_where_they_should_be(chance: float) -> None:
    random, rounds, trials = Random(1), 200, 500
    total = sum(binomial(random, trials, chance) for _ in range(rounds))
    # Six standard deviations of the sum: with this seed it passes, and a wrong law would be far outside.
    spread = 6 * (rounds * trials * chance * (1 - chance)) ** 0.5
    assert abs(total - rounds * trials * chance) <= spread


def test_no_payment_is_lost_between_versions_and_the_window_forgets() -> None:
    sure = Behaviour(1.0, 10)
    traffic = SimulatedTraffic(World(sure, sure, payments_per_second=7, pinned=0, seed=0), window_s=10_000)
    for second in range(1, 1_001):
        seen = traffic.flow(second, 1, 33, pinned=False)
    assert (seen.stable, seen.target) == (Counted(6_977, 6_977), Counted(23, 23))
    short = SimulatedTraffic(World(sure, sure, payments_per_second=10, pinned=0, seed=0), window_s=5)
    for second in range(1, 21):
        seen = short.flow(second, 1, 5_000, pinned=False)
    assert (seen.stable.total, seen.target.total) == (25, 25)
    short.forget()
    assert short.flow(21, 1, 0, pinned=False).target == Counted(0, 0)
