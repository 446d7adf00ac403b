"""Owns asking others about a release over HTTP: a Prometheus, webhooks that judge, hooks that are told.

Refuses to take for a yes what is not one: whatever is late, long, malformed or missing leaves a check open. Nothing
that others answer is shown but a webhook's own `why`; of a URL only the host is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from urllib.parse import urlencode, urlsplit

from paymesh.payments.denial import Unavailable
from paymesh.payments.jose.fetch import FetchResponse, HttpFetch
from paymesh.payments.releases.analysis import Finding, Verdict
from paymesh.payments.releases.checks import PrometheusCheck, WebhookCheck
from paymesh.payments.releases.plan import Hooks

MAX_ANSWER_BYTES = 1024 * 1024
MAX_WHY = 300
"""Characters of what a webhook says."""
_JSON = {"content-type": "application/json", "accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Subject:
    """What others are told. `phase`, `step`, `share` (of 10,000) of the change that it is about."""

    release: str
    service: str
    stable: str
    target: str
    phase: str
    step: int
    share: int
    window_s: int = 0
    why: str = ""


async def ask_prometheus(fetch: HttpFetch, check: PrometheusCheck, subject: Subject) -> Finding:
    """PASS or FAIL by one number alone. Source: Prometheus' HTTP API, instant queries (/api/v1/query)."""
    query = _filled(check.query, subject)
    url = f"{check.url.rstrip('/')}/api/v1/query?{urlencode({'query': query})}"
    try:
        answer = await fetch.fetch("GET", url, _JSON, b"", check.timeout_ms / 1000, MAX_ANSWER_BYTES)
        value = _number(_ok(answer, check.url))
    except (Unavailable, ValueError) as error:
        return Finding(check.name, Verdict.INCONCLUSIVE, str(error))
    low, high = (None if bound is None else Decimal(bound) for bound in (check.at_least, check.at_most))
    if low is not None and value < low:
        return Finding(check.name, Verdict.FAIL, f"{value} is below {low}")
    if high is not None and value > high:
        return Finding(check.name, Verdict.FAIL, f"{value} is above {high}")
    bounds = " and ".join(
        f"{word} {bound}" for word, bound in (("at least", low), ("at most", high)) if bound is not None
    )
    return Finding(check.name, Verdict.PASS, f"{value} is {bounds}")


async def ask_webhook(fetch: HttpFetch, check: WebhookCheck, subject: Subject) -> Finding:
    """What it says; INCONCLUSIVE if it says nothing that can be read."""
    body = json.dumps(asdict(subject)).encode()
    try:
        answer = await fetch.fetch("POST", check.url, _JSON, body, check.timeout_ms / 1000, MAX_ANSWER_BYTES)
        said = _ok(answer, check.url)
        verdict = Verdict(str(said.get("verdict")))
    except (Unavailable, ValueError) as error:
        return Finding(check.name, Verdict.INCONCLUSIVE, str(error))
    why = said.get("why")
    return Finding(check.name, verdict, _printable(why) if isinstance(why, str) else f"{_host(check.url)} says so")


async def ask_before(fetch: HttpFetch, hooks: Hooks, subject: Subject, seq: int) -> str:
    """One after the other, until one does not answer 2xx: which, and why. Empty: all did."""
    for url in hooks.before:
        failed = await _tell(fetch, url, hooks.timeout_ms, subject, seq, "before")
        if failed:
            return failed
    return ""


async def tell_after(fetch: HttpFetch, hooks: Hooks, subject: Subject, seq: int) -> str:
    """All at once: those that did not answer 2xx, and why. Empty: all did."""
    told = await asyncio.gather(*(_tell(fetch, url, hooks.timeout_ms, subject, seq, "after") for url in hooks.after))
    return "; ".join(one for one in told if one)


async def _tell(fetch: HttpFetch, url: str, timeout_ms: int, subject: Subject, seq: int, when: str) -> str:
    """Told again after a crash it has the same key."""
    body = json.dumps({**asdict(subject), "change": seq, "when": when}).encode()
    headers = {**_JSON, "idempotency-key": f"{subject.release}/{seq}/{when}"}
    try:
        answer = await fetch.fetch("POST", url, headers, body, timeout_ms / 1000, MAX_ANSWER_BYTES)
    except Unavailable as error:
        return str(error)
    return "" if 200 <= answer.status < 300 else f"{_host(url)}: answered {answer.status}"


def _filled(query: str, subject: Subject) -> str:
    """Names of the policy hold no character that PromQL would read as its own."""
    found = {"service": subject.service, "stable": subject.stable, "target": subject.target}
    for name, value in {**found, "window": f"{max(subject.window_s, 1)}s"}.items():
        query = query.replace(f"{{{{{name}}}}}", value)
    return query


def _ok(answer: FetchResponse, url: str) -> Mapping[str, object]:
    """Raises ValueError, which names the host."""
    if answer.status != 200:
        raise ValueError(f"{_host(url)}: answered {answer.status}")
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{_host(url)}: what it answers is no JSON object")  # noqa: TRY004 - one error for callers
    return found


def _number(said: Mapping[str, object]) -> Decimal:
    """Of a scalar, or of the only sample of a vector. Raises ValueError."""
    data = said.get("data")
    if said.get("status") != "success" or not isinstance(data, dict):
        raise ValueError("the query has no result")
    result = data.get("result")
    if data.get("resultType") == "vector":
        if not isinstance(result, list) or len(result) != 1 or not isinstance(result[0], dict):
            count = len(result) if isinstance(result, list) else "no list of"
            raise ValueError(f"the query gives {count} numbers, not one")
        result = result[0].get("value")
    if not isinstance(result, list) or len(result) != 2 or not isinstance(result[1], str):
        raise ValueError("the query gives no number")
    try:
        value = Decimal(result[1])
    except InvalidOperation:
        value = Decimal("NaN")  # such as +Inf, which Decimal does not read
    if not value.is_finite():
        raise ValueError("the query gives no finite number")
    return value


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text[:MAX_WHY])


def _host(url: str) -> str:
    return urlsplit(url).hostname or "unknown host"
