"""Owns how a release is written: one YAML document, keys named as the field names them, unknown ones refused.

Refuses I/O, and whatever would be guessed. What needs the service's versions is checked when the release is applied.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, StringConstraints, model_validator

from paymesh.payments.outcome import Outcome
from paymesh.payments.policy.compiled import Operation
from paymesh.payments.policy.parsing import parse
from paymesh.payments.policy.problems import DocumentPath, PolicyErrors
from paymesh.payments.policy.route_documents import CookieMatchDocument, HeaderName
from paymesh.payments.policy.values import (
    NAME_PATTERN,
    Bound,
    Document,
    Identifier,
    Milliseconds,
    Name,
    Seconds,
    Weight,
)
from paymesh.payments.policy.yaml_source import read_text
from paymesh.payments.releases.analysis import LatencyRule, RateRule
from paymesh.payments.releases.checks import (
    Analysis,
    Check,
    Counting,
    LatencyCheck,
    PrometheusCheck,
    RateCheck,
    WebhookCheck,
)
from paymesh.payments.releases.plan import Gate, Hold, Hooks, Kind, OnFailure, Plan, Problem, SetPins, SetWeight, Step
from paymesh.payments.releases.traffic import COOKIE, HEADER, MERCHANT, TOTAL, Pin

_ONE = Decimal(1)
MAX_COOKIE = 80


def _service_at_version(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(f"{NAME_PATTERN}@{NAME_PATTERN}", value):
        raise ValueError("a service and its version, such as ledger@v2")
    return value


Url = Annotated[str, StringConstraints(pattern=r"^https?://[\x21-\x7e]+$", max_length=2_000)]
Percentage = Annotated[Bound, Field(ge=0, le=100)]
Sample = Annotated[StrictInt, Field(ge=1, le=100_000_000)]
Wait = Annotated[Seconds, Field(ge=1)]
Dependency = Annotated[str, BeforeValidator(_service_at_version)]
Merchants = Annotated[tuple[Identifier, ...], Field(min_length=1, max_length=1_000)]


class HeaderPinDocument(Document):
    name: HeaderName = Field(description="Lower case.")
    exact: Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]+$", max_length=256)]

    @model_validator(mode="after")
    def _not_ours(self) -> HeaderPinDocument:
        if self.name.startswith(("x-pay-", ":")) or self.name == "host":
            raise ValueError("x-pay-* headers, pseudo headers and host pick no version; merchants are named as such")
        return self


class CookiePinDocument(CookieMatchDocument):
    @model_validator(mode="after")
    def _with_value(self) -> CookiePinDocument:
        if not self.exact:
            raise ValueError("a cookie that picks a version has an exact value")
        if len(self.name) + len(self.exact) > MAX_COOKIE:
            raise ValueError(
                f"name and value of the cookie have {MAX_COOKIE} characters at most: Envoy bounds patterns"
            )
        return self


class StepDocument(Document):
    """Exactly one of weight, merchants, header, cookie, hold, analysis and gate."""

    weight: Weight | None = Field(None, description="The target's percent of the traffic, in steps of 0.01.")
    merchants: Merchants | None = Field(None, description="These merchants go to the target.")
    header: HeaderPinDocument | None = Field(None, description="Requests with this header go to the target.")
    cookie: CookiePinDocument | None = Field(None, description="Requests with this cookie go to the target.")
    hold: Wait | None = Field(None, description="Nothing moves for so long, and until the analysis has passed.")
    analysis: StrictBool | None = Field(None, description="true: until the analysis has passed, however long it takes.")
    gate: StrictBool | None = Field(None, description="true: until a person promotes.")

    @model_validator(mode="after")
    def _one_thing(self) -> StepDocument:
        given = [getattr(self, name) for name in type(self).model_fields]
        if len(given) - given.count(None) != 1 or False in (self.gate, self.analysis):
            raise ValueError(
                "a step is exactly one of weight, merchants, header, cookie, hold, analysis: true and gate: true"
            )
        return self


class BlueGreenDocument(Document):
    """Preview, checks, switch, hold: the steps of `strategy: blue_green`."""

    preview: tuple[StepDocument, ...] = Field((), description="Who sees the target before the switch: pins only.")
    check: Wait = Field(60, description="How long it is looked at before the switch; needs a preview to be judged.")
    gate: StrictBool = Field(True, description="A person promotes before the switch.")
    hold: Wait = Field(600, description="After the switch the stable version stays warm so long: abort goes back.")

    @model_validator(mode="after")
    def _only_pins(self) -> BlueGreenDocument:
        if any(step.merchants is None and step.header is None and step.cookie is None for step in self.preview):
            raise ValueError("a preview has merchants, header and cookie only")
        return self


class SuccessDocument(Document):
    """The target's rate of success against the stable version's, over the same time."""

    name: Name = "success"
    of: Counting = Field(
        Counting.PAYMENTS, description="payments: as their outcomes say. requests: as Envoy's load reports say."
    )
    max_drop: Percentage = Field(_ONE, description="Percentage points that the target may be worse.")
    confidence: Annotated[Bound, Field(gt=50, lt=100)] = Field(
        Decimal(95), description="Percent; of each bound of the difference (Newcombe 1998)."
    )
    min_sample: Sample = Field(100, description="Of each version, before anything is said.")

    @model_validator(mode="after")
    def _not_an_outcome(self) -> SuccessDocument:
        if self.of is Counting.OUTCOME:
            raise ValueError("is payments or requests; an outcome is a counter")
        return self


class CounterDocument(Document):
    """A business counter: how often an outcome comes, of all requests of an operation."""

    name: Name
    operation: Operation = Operation.PAY
    outcome: Outcome
    max_rise: Percentage = Field(_ONE, description="Percentage points that it may come more often at the target.")
    confidence: Annotated[Bound, Field(gt=50, lt=100)] = Decimal(95)
    min_sample: Sample = 100


class LatencyDocument(Document):
    """A quantile of the service's own time. At least one of max_ratio and max; the larger bound counts."""

    name: Name = "latency"
    quantile: Annotated[Bound, Field(gt=0, lt=1)] = Decimal("0.99")
    max_ratio: Annotated[Bound, Field(ge=1, le=1000)] | None = Field(
        None, description="Times the stable version's quantile."
    )
    max: Milliseconds | None = None
    min_sample: Sample = 100

    @model_validator(mode="after")
    def _some_bound(self) -> LatencyDocument:
        if self.max_ratio is None and self.max is None:
            raise ValueError("at least one of max_ratio and max is required")
        return self


class PrometheusDocument(Document):
    """An instant query that gives one number. Without a number nothing is said, and a hold goes on."""

    name: Name
    url: Url = Field(description="Of the server, such as http://prometheus:9090.")
    query: Annotated[str, StringConstraints(min_length=1, max_length=10_000)] = Field(
        description="PromQL; {{service}}, {{stable}}, {{target}} and {{window}} stand for what they say."
    )
    at_least: Bound | None = None
    at_most: Bound | None = None
    timeout: Milliseconds = 2_000

    @model_validator(mode="after")
    def _some_bound(self) -> PrometheusDocument:
        if self.at_least is None and self.at_most is None:
            raise ValueError("at least one of at_least and at_most is required")
        return self


class WebhookDocument(Document):
    """Asked by POST with the release as JSON; answers {"verdict": "pass" | "fail" | "inconclusive", "why": ...}."""

    name: Name
    url: Url
    timeout: Milliseconds = 2_000


class CheckDocument(Document):
    """Exactly one of success, latency, counter, prometheus and webhook."""

    success: SuccessDocument | None = None
    latency: LatencyDocument | None = None
    counter: CounterDocument | None = None
    prometheus: PrometheusDocument | None = None
    webhook: WebhookDocument | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> CheckDocument:
        given = [getattr(self, name) for name in type(self).model_fields]
        if len(given) - given.count(None) != 1:
            raise ValueError("a check is exactly one of success, latency, counter, prometheus and webhook")
        return self


class AnalysisDocument(Document):
    """Judged as long as the target has traffic. One fail is a fail; a pass needs all of them."""

    every: Wait = 5
    window: Annotated[Seconds, Field(ge=5, le=900)] = Field(
        900, description="Nothing older counts, nor what was before the step."
    )
    checks: tuple[CheckDocument, ...] = Field(min_length=1, max_length=20)


class HooksDocument(Document):
    before: tuple[Url, ...] = Field((), description="Traffic moves once each has answered 2xx; going back never waits.")
    after: tuple[Url, ...] = Field((), description="Told once every node has it; again until they answer 2xx.")
    timeout: Milliseconds = 5_000


class ReleaseDocument(Document):
    """What `paymesh release apply -f FILE` takes."""

    release: Name = Field(description="The release's name.")
    service: Name
    stable: Name = Field(description="The version that has the traffic now.")
    target: Name = Field(description="Its neighbour in the policy's list of versions.")
    strategy: Kind = Kind.CANARY
    steps: tuple[StepDocument, ...] = Field((), description="Of a canary. Behind the last one all traffic moves.")
    blue_green: BlueGreenDocument | None = None
    isolate: StrictBool = Field(
        False, description="No weight, no header, no cookie: only test_merchants and other merchants named reach it."
    )
    test_merchants: tuple[Identifier, ...] = Field((), max_length=1_000, description="Go to the target from the start.")
    salt: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,64}$")] | None = Field(
        None, description="Decides which merchants move first; absent: the release's name."
    )
    drain: Seconds | None = Field(
        None,
        description="Orders stay with the version that they began on, until so long after the last step. Absent: they "
        "go where their merchant goes.",
    )
    mirror: Weight = Field(
        0, description="Percent of the requests on routes with safe_to_repeat: true that the target gets a copy of."
    )
    depends_on: tuple[Dependency, ...] = Field(
        (), description="SERVICE@VERSION: the first step waits until the checks of these have passed."
    )
    on_failure: OnFailure = OnFailure.ROLLBACK
    analysis: AnalysisDocument | None = None
    hooks: HooksDocument = HooksDocument()

    @model_validator(mode="after")
    def _fits(self) -> ReleaseDocument:
        if self.strategy is Kind.CANARY and self.blue_green is not None:
            raise ValueError("blue_green belongs to strategy: blue_green")
        if self.strategy is Kind.BLUE_GREEN and (self.steps or self.isolate):
            raise ValueError("a blue_green release has neither steps nor isolate; its blue_green says what happens")
        if self.strategy is Kind.CANARY and not self.steps and not self.isolate:
            raise ValueError("a canary has steps")
        if self.isolate and not self.test_merchants and all(step.merchants is None for step in self.steps):
            raise ValueError("an isolated version needs test_merchants, or nobody reaches it")
        if self.isolate and any(step.header is not None or step.cookie is not None for step in self.steps):
            raise ValueError("an isolated version is reached by merchants alone: anybody may send a header or a cookie")
        if self.analysis is None and any(step.analysis for step in self.steps):
            raise ValueError("a step waits for the analysis, and there is none: analysis has the checks")
        if self.stable == self.target:
            raise ValueError("stable and target are the same version")
        shares = [step.weight for step in self.steps if step.weight is not None]
        if shares != sorted(set(shares)) or 0 in shares:
            raise ValueError("the weights of the steps rise, from above 0 to 100 percent at most")
        if self.isolate and shares:
            raise ValueError("an isolated version gets no weight")
        names = [check.name for check in _checks(self.analysis)]
        if len(names) != len(set(names)):
            raise ValueError("two checks have the same name")
        return self


def read_plan(name: str, text: str) -> Plan:
    """The plan in one document; `name` is what problems call the file. Raises PolicyErrors with every problem."""
    tree = read_text(name, text)
    document = parse(ReleaseDocument, tree, {})
    if tree.problems or document is None:
        raise PolicyErrors(tree.problems, tree.files)
    return _plan(document)


def located(name: str, text: str, problems: Iterable[Problem]) -> PolicyErrors:
    """What is wrong with a document that could be read, each with its line."""
    tree = read_text(name, text)
    return PolicyErrors([tree.problem(path, message) for path, message in problems], tree.files)


def unknown_merchants(text: str, known: Container[str]) -> list[Problem]:
    """Those that a document which could be read names and nobody knows: with a slip in its name, nobody tests."""
    document = parse(ReleaseDocument, read_text("", text), {})
    assert document is not None  # it could be read
    named: list[tuple[DocumentPath, tuple[str, ...]]] = [(("test_merchants",), document.test_merchants)]
    named += [(("steps", index, "merchants"), step.merchants or ()) for index, step in enumerate(document.steps)]
    preview = () if document.blue_green is None else document.blue_green.preview
    for index, step in enumerate(preview):
        named.append((("blue_green", "preview", index, "merchants"), step.merchants or ()))
    return [
        ((*path, index), f"there is no merchant {merchant}")
        for path, merchants in named
        for index, merchant in enumerate(merchants)
        if merchant not in known
    ]


def _plan(document: ReleaseDocument) -> Plan:
    return Plan(
        name=document.release,
        service=document.service,
        kind=document.strategy,
        stable=document.stable,
        target=document.target,
        steps=tuple(_steps(document)),
        analysis=_analysis(document.analysis),
        on_failure=document.on_failure,
        depends_on=tuple(_dependency(one) for one in document.depends_on),
        isolate=document.isolate,
        salt=document.salt or document.release,
        orders_stay=document.drain is not None,
        drain_s=document.drain or 0,
        mirror=document.mirror,
        hooks=Hooks(document.hooks.before, document.hooks.after, document.hooks.timeout),
    )


def _dependency(text: str) -> tuple[str, str]:
    service, _, version = text.partition("@")
    return service, version


def _steps(document: ReleaseDocument) -> Iterator[Step]:
    target = document.target
    if document.test_merchants:
        yield SetPins(tuple(Pin(MERCHANT, "", merchant, target) for merchant in document.test_merchants))
    if document.strategy is Kind.CANARY:
        yield from (_step(step, target) for step in document.steps)
        return
    terms = document.blue_green or BlueGreenDocument()
    yield from (_step(step, target) for step in terms.preview)
    yield Hold(terms.check)
    if terms.gate:
        yield Gate()
    yield SetWeight(TOTAL)
    yield Hold(terms.hold)


def _step(step: StepDocument, target: str) -> Step:
    if step.weight is not None:
        return SetWeight(step.weight)
    if step.hold is not None or step.analysis:
        return Hold(step.hold or 0)
    pins = _pins(step, target)
    return SetPins(pins) if pins else Gate()


def _pins(step: StepDocument, target: str) -> tuple[Pin, ...]:
    if step.merchants is not None:
        return tuple(Pin(MERCHANT, "", merchant, target) for merchant in step.merchants)
    if step.header is not None:
        return (Pin(HEADER, step.header.name, step.header.exact, target),)
    if step.cookie is not None:
        return (Pin(COOKIE, step.cookie.name, step.cookie.exact or "", target),)
    return ()


def _analysis(document: AnalysisDocument | None) -> Analysis | None:
    if document is None:
        return None
    return Analysis(tuple(_check(one) for one in _checks(document)), document.every, document.window)


_AnyCheck = SuccessDocument | LatencyDocument | CounterDocument | PrometheusDocument | WebhookDocument


def _checks(document: AnalysisDocument | None) -> list[_AnyCheck]:
    found = []
    for check in () if document is None else document.checks:
        one = check.success or check.latency or check.counter or check.prometheus or check.webhook
        assert one is not None  # the model's validator saw to it
        found.append(one)
    return found


def _check(one: _AnyCheck) -> Check:
    match one:
        case SuccessDocument():
            return RateCheck(_rate(one.name, one.max_drop, one.confidence, one.min_sample), one.of)
        case CounterDocument():
            rule = _rate(one.name, one.max_rise, one.confidence, one.min_sample)
            return RateCheck(rule, Counting.OUTCOME, str(one.operation), str(one.outcome))
        case LatencyDocument():
            ratio = None if one.max_ratio is None else float(one.max_ratio)
            return LatencyCheck(LatencyRule(one.name, float(one.quantile), ratio, one.max, one.min_sample))
        case PrometheusDocument():
            return PrometheusCheck(one.name, one.url, one.query, _text(one.at_least), _text(one.at_most), one.timeout)
        case WebhookDocument():
            return WebhookCheck(one.name, one.url, one.timeout)


def _rate(name: str, allowed: Decimal, confidence: Decimal, min_sample: int) -> RateRule:
    return RateRule(name, float(allowed / 100), float(confidence / 100), min_sample)


def _text(bound: Decimal | None) -> str | None:
    return None if bound is None else str(bound)
