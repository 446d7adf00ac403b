"""What people write becomes a plan, and every fault is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.releases.checks import Counting, LatencyCheck, PrometheusCheck, RateCheck, WebhookCheck
from paymesh.payments.releases.codec import decode_plan, encode_plan
from paymesh.payments.releases.documents import located, read_plan, unknown_merchants
from paymesh.payments.releases.plan import Gate, Hold, Kind, OnFailure, SetPins, SetWeight, plan_problems
from paymesh.payments.releases.traffic import Pin

CANARY = """\
release: trade-v2
service: trade
stable: v1
target: v2
test_merchants: [lab]
drain: 15m
mirror: '0.5'
on_failure: freeze
depends_on: [ledger@v7]
steps:
  - header: {name: x-canary, exact: 'yes'}
  - cookie: {name: canary, exact: 'yes'}
  - weight: '0.01'
  - hold: 5m
  - merchants: [bookshop, cinema]
  - weight: 50
  - analysis: true
  - gate: true
analysis:
  every: 2s
  window: 10m
  checks:
    - success: {max_drop: '0.5', confidence: 99, min_sample: 30}
    - success: {name: answered, of: requests}
    - latency: {quantile: '0.95', max_ratio: '1.5', max: 300ms}
    - counter: {name: refused, outcome: refused, max_rise: 2}
    - prometheus: {name: errors, url: 'http://127.0.0.1:9090', query: 'sum(up)', at_most: '0.01'}
    - webhook: {name: gate, url: 'https://example.com/gate'}
hooks: {before: ['http://127.0.0.1:1/before'], after: ['http://127.0.0.1:1/after'], timeout: 1s}
"""


def test_a_canary() -> None:
    plan = read_plan("trade.yaml", CANARY)
    assert plan.steps == (
        SetPins((Pin("merchant", "", "lab", "v2"),)),
        SetPins((Pin("header", "x-canary", "yes", "v2"),)),
        SetPins((Pin("cookie", "canary", "yes", "v2"),)),
        SetWeight(1),
        Hold(300),
        SetPins((Pin("merchant", "", "bookshop", "v2"), Pin("merchant", "", "cinema", "v2"))),
        SetWeight(5_000),
        Hold(0),
        Gate(),
    )
    assert (plan.salt, plan.orders_stay, plan.drain_s, plan.mirror) == ("trade-v2", True, 900, 50)
    assert (plan.on_failure, plan.depends_on) == (OnFailure.FREEZE, (("ledger", "v7"),))
    assert plan.analysis is not None
    success, answered, latency, counter, prometheus, webhook = plan.analysis.checks
    assert isinstance(success, RateCheck)
    assert (success.counting, success.rule.max_drop, success.rule.confidence) == (Counting.PAYMENTS, 0.005, 0.99)
    assert isinstance(answered, RateCheck)
    assert answered.counting is Counting.REQUESTS
    assert isinstance(latency, LatencyCheck)
    assert (latency.rule.quantile, latency.rule.max_ratio, latency.rule.max_ms) == (0.95, 1.5, 300)
    assert isinstance(counter, RateCheck)
    assert (counter.counting, counter.operation, counter.outcome) == (Counting.OUTCOME, "pay", "refused")
    assert isinstance(prometheus, PrometheusCheck)
    assert (prometheus.at_least, prometheus.at_most) == (None, "0.01")
    assert isinstance(webhook, WebhookCheck)
    assert decode_plan(encode_plan(plan)) == plan


def test_blue_green_is_preview_checks_switch_and_hold() -> None:
    plan = read_plan(
        "trade.yaml",
        "release: trade-v2\nservice: trade\nstable: v1\ntarget: v2\nstrategy: blue_green\n"
        "blue_green: {preview: [{merchants: [lab]}], check: 30s, hold: 10m}\n",
    )
    assert plan.kind is Kind.BLUE_GREEN
    assert plan.steps == (
        SetPins((Pin("merchant", "", "lab", "v2"),)),
        Hold(30),
        Gate(),
        SetWeight(10_000),
        Hold(600),
    )


HEAD = "release: r\nservice: trade\nstable: v1\ntarget: v2\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD, "r.yaml:1: a canary has steps"),
        (HEAD + "steps:\n  - weight: 1\n  - {weight: 2, hold: 5s}\n", "r.yaml:7: steps[1]: a step is exactly one"),
        (HEAD + "steps:\n  - weight: 0.5\n", "r.yaml:6: steps[0].weight: binary floats are not used here"),
        (HEAD + "steps:\n  - weight: 5\n  - weight: 5\n", "the weights of the steps rise"),
        (HEAD + "steps:\n  - weight: 0\n", "the weights of the steps rise"),
        (HEAD + "steps:\n  - hold: 0s\n", "r.yaml:6: steps[0].hold"),
        (HEAD + "steps:\n  - gate: false\n", "r.yaml:6: steps[0]: a step is exactly one"),
        (HEAD + "steps:\n  - header: {name: x-pay-merchant, exact: a}\n", "r.yaml:6: steps[0].header: x-pay-*"),
        (HEAD + "steps:\n  - cookie: {name: a}\n", "r.yaml:6: steps[0].cookie: a cookie that picks"),
        (HEAD + "steps: [{weight: 1}]\ndepends_on: [ledger]\n", "r.yaml:6: depends_on[0]: a service and its version"),
        (HEAD + "steps: [{weight: 1}]\ndepends_on: [{a: b}]\n", "r.yaml:6: depends_on[0]: a service and its version"),
        (HEAD + "steps: [{weight: 1}, {analysis: true}]\n", "a step waits for the analysis, and there is none"),
        (HEAD + "steps: [{analysis: false}]\n", "r.yaml:5: steps[0]: a step is exactly one of"),
        (HEAD + "isolate: true\n", "an isolated version needs test_merchants"),
        (HEAD + "isolate: true\ntest_merchants: [a]\nsteps: [{header: {name: x, exact: y}}]\n", "by merchants alone"),
        (HEAD + "isolate: true\ntest_merchants: [a]\nsteps: [{cookie: {name: x, exact: y}}]\n", "by merchants alone"),
        (HEAD + "isolate: true\ntest_merchants: [a]\nsteps: [{weight: 1}]\n", "an isolated version gets no weight"),
        (HEAD + "blue_green: {}\nsteps: [{weight: 1}]\n", "belongs to strategy: blue_green"),
        (HEAD + "strategy: blue_green\nsteps: [{weight: 1}]\n", "has neither steps nor isolate"),
        (HEAD + "strategy: blue_green\nblue_green: {preview: [{weight: 1}]}\n", "r.yaml:6: blue_green: a preview has"),
        (HEAD + "steps: [{weight: 1}]\nwieght: 1\n", "r.yaml:6: wieght: unknown key"),
        (HEAD + "steps: [{weight: 1}]\nanalysis: {checks: []}\n", "r.yaml:6: analysis.checks: needs at least one"),
        (HEAD + "steps: [{weight: 1}]\nanalysis: {checks: [{latency: {}}]}\n", "max_ratio and max is required"),
        (HEAD + "steps: [{weight: 1}]\nanalysis: {checks: [{success: {}}, {success: {}}]}\n", "the same name"),
        (HEAD + "steps: [{weight: 1}]\nhooks: {before: ['file:///etc/passwd']}\n", "r.yaml:6: hooks.before[0]"),
        ("- a list\n", "r.yaml:1: "),
        ("release: [\n", "not YAML"),
        ("", "release: is required"),
    ],
)
def test_faults_are_told_with_their_line(text: str, said: str) -> None:
    with pytest.raises(PolicyErrors) as refused:
        read_plan("r.yaml", text)
    assert said in str(refused.value), str(refused.value)


def test_merchants_whom_nobody_knows_are_told_where_they_stand() -> None:
    canary = (
        HEAD
        + "test_merchants: [ann, bob]\nsteps:\n  - {merchants: [cat]}\n  - {merchants: [ann, dan]}\n  - {gate: true}\n"
    )
    found = unknown_merchants(canary, {"ann"})
    assert str(located("r.yaml", canary, found)).splitlines() == [
        "r.yaml:5: test_merchants[1]: there is no merchant bob",
        "r.yaml:7: steps[0].merchants[0]: there is no merchant cat",
        "r.yaml:8: steps[1].merchants[1]: there is no merchant dan",
    ]
    green = HEAD + "strategy: blue_green\nblue_green: {preview: [{merchants: [eve]}, {header: {name: x, exact: y}}]}\n"
    found = unknown_merchants(green, {"ann"})
    assert found == [(("blue_green", "preview", 0, "merchants", 0), "there is no merchant eve")]
    assert unknown_merchants(green, {"eve"}) == []


@pytest.mark.parametrize("name", ["canary", "blue_green"])
def test_the_examples_are_plans(name: str) -> None:
    file = Path(__file__).resolve().parents[4] / "examples" / "releases" / f"{name}.yaml"
    plan = read_plan(str(file), file.read_text())
    assert plan_problems(plan, ("v1", "v2")) == []
    assert plan.analysed
