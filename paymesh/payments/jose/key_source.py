"""Owns where an issuer's keys come from: a set read with the policy, or a URL that is asked again and again.

Refuses to let a stranger decide how often a URL is asked: one request at a time, an unknown `kid` at most one every
ten seconds, a URL that fails less and less often. What cannot be known now is Unavailable, never "unknown".

The registry lives beside the policy, so that a reload keeps what was fetched. It belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import random
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from paymesh.payments.denial import Unavailable
from paymesh.payments.jose.fetch import FetchResponse, HttpFetch, shown
from paymesh.payments.jose.jwks import MAX_SET_BYTES, JwksProblem, parse_jwks
from paymesh.payments.jose.keys import Jwk, JwkSet, JwsAlgorithm

_LOG = logging.getLogger(__name__)
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?([0-9]{1,10})", re.ASCII | re.IGNORECASE)
_NEVER_FRESH = re.compile(r"(?:^|[,\s])no-(?:store|cache)(?:$|[,\s])", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class KeyUrlTimes:
    """How a URL is asked; all in seconds."""

    deadline_s: float = 2.0
    default_age_s: float = 300.0
    """How long a set is fresh whose answer does not say."""
    min_age_s: float = 60.0
    max_age_s: float = 86_400.0
    refresh_at: float = 0.8
    """The part of its age after which a set is fetched again, while it still serves."""
    max_stale_s: float = 3600.0
    """How long an expired set serves while the URL fails."""
    unknown_kid_s: float = 10.0
    """At most one request in so many seconds because of an unknown kid; as long it stays known as unknown."""
    first_pause_s: float = 1.0
    """After a failure; doubled with each further one."""
    last_pause_s: float = 30.0


class Freshness(enum.StrEnum):
    """What a URL's keys are worth now."""

    NONE = "none"
    """Nothing was ever fetched."""
    FRESH = "fresh"
    STALE = "stale"
    """Expired; they serve while the URL fails."""
    DEAD = "dead"
    """Expired for too long."""


class KeySource(Protocol):
    async def keys(self, kid: str | None, algorithm: JwsAlgorithm) -> tuple[Jwk, ...]:
        """The keys that may have signed; empty if there is none. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class FixedKeys:
    """A set that came with the policy: a file's, or one secret."""

    key_set: JwkSet

    async def keys(self, kid: str | None, algorithm: JwsAlgorithm) -> tuple[Jwk, ...]:
        # One secret has no name: whatever name the token gives it, there is only this one.
        return self.key_set.find(None if algorithm is JwsAlgorithm.HS256 else kid, algorithm)


class UrlKeys:
    """The set at one URL, kept and renewed."""

    _MAX_UNKNOWN = 1000

    def __init__(
        self,
        url: str,
        fetch: HttpFetch,
        times: KeyUrlTimes = KeyUrlTimes(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._fetch = fetch
        self._times = times
        self._clock = clock
        self._set: JwkSet | None = None
        self._refresh_after = 0.0
        self._expires = 0.0
        self._asked_for_unknown = float("-inf")
        self._failures = 0
        self._retry_after = float("-inf")
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._task: asyncio.Task[bool] | None = None
        self.fetches = 0
        """Requests sent since the start."""

    @property
    def freshness(self) -> Freshness:
        if self._set is None:
            return Freshness.NONE
        over_s = self._clock() - self._expires
        if over_s < 0:
            return Freshness.FRESH
        return Freshness.STALE if over_s < self._times.max_stale_s else Freshness.DEAD

    async def keys(self, kid: str | None, algorithm: JwsAlgorithm) -> tuple[Jwk, ...]:
        known = await self._current()
        if kid is None or known.knows(kid):
            return known.find(kid, algorithm)
        if not await self._look_for(kid):
            return ()
        return (await self._current()).find(kid, algorithm)

    async def prefetch(self) -> bool:
        """Ask now if nothing is there; whether keys are there afterwards."""
        if self._set is None:
            await self._renew()
        return self._set is not None

    async def close(self) -> None:
        """End what is under way."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _current(self) -> JwkSet:
        """The set that serves now. Waits only where there is no fresh one, and not for a URL that fails anyway."""
        now, freshness = self._clock(), self.freshness
        due = now >= self._retry_after
        if freshness is Freshness.FRESH or (freshness is Freshness.STALE and self._failures):
            if due and now >= self._refresh_after:
                self._begin()
        elif due or self._task is not None:
            await self._renew()
        if self._set is None or self.freshness is Freshness.DEAD:
            raise Unavailable(f"no keys from {shown(self._url)}")
        return self._set

    async def _look_for(self, kid: str) -> bool:
        """Ask because of a kid that the set has not; whether it may have it now. Raises Unavailable."""
        now = self._clock()
        if self._unknown.get(kid, float("-inf")) > now:
            return False
        if self._task is None and now < self._asked_for_unknown + self._times.unknown_kid_s:
            # Asked a moment ago. If that failed, the kid may well be a new key's.
            if self._failures:
                raise Unavailable(f"no newer keys from {shown(self._url)}")
            return False
        if self._task is None:
            self._asked_for_unknown = now
        if not await self._renew():
            raise Unavailable(f"no newer keys from {shown(self._url)}")
        if self._set is not None and not self._set.knows(kid):
            self._remember_unknown(kid)
            return False
        return True

    def _remember_unknown(self, kid: str) -> None:
        self._unknown[kid] = self._clock() + self._times.unknown_kid_s
        self._unknown.move_to_end(kid)
        if len(self._unknown) > self._MAX_UNKNOWN:
            self._unknown.popitem(last=False)

    # -- asking --------------------------------------------------------------------------------------------------

    def _begin(self) -> asyncio.Task[bool]:
        if self._task is None:
            self._task = asyncio.create_task(self._ask(), name="key set")
            self._task.add_done_callback(self._ended)
        return self._task

    async def _renew(self) -> bool:
        """Wait for the one request under way, or begin it; whether it brought a set."""
        # Shielded: a caller that goes away must not take the answer from those that wait as well.
        return await asyncio.shield(self._begin())

    def _ended(self, task: asyncio.Task[bool]) -> None:
        self._task = None
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._postpone()
            _LOG.error("key set not read", extra={"fields": {"url": shown(self._url), "error": type(bug).__name__}})

    async def _ask(self) -> bool:
        self.fetches += 1
        try:
            response = await self._fetch.fetch(
                "GET",
                self._url,
                {"accept": "application/jwk-set+json, application/json"},
                b"",
                self._times.deadline_s,
                MAX_SET_BYTES,
            )
            found = _read(response)
        except Unavailable as failure:
            found = JwksProblem(str(failure))
        if isinstance(found, JwkSet):
            self._accept(found, response.headers)
            return True
        if not self._failures:
            _LOG.warning("key set not renewed", extra={"fields": {"url": shown(self._url), "why": found.detail}})
        self._postpone()
        return False

    def _accept(self, found: JwkSet, headers: Mapping[str, str]) -> None:
        age_s = fresh_for_s(headers, self._times)
        now = self._clock()
        self._set = found
        self._refresh_after, self._expires = now + age_s * self._times.refresh_at, now + age_s
        self._failures, self._retry_after = 0, float("-inf")

    def _postpone(self) -> None:
        pause_s = min(self._times.first_pause_s * 2**self._failures, self._times.last_pause_s)
        self._failures = min(self._failures + 1, 16)
        # Many gateways must not ask in step.
        self._retry_after = self._clock() + pause_s * random.uniform(0.75, 1.25)  # noqa: S311 - no secret


class KeySources:
    """Every URL that was ever asked, by URL."""

    def __init__(
        self,
        fetch: HttpFetch,
        times: KeyUrlTimes = KeyUrlTimes(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._times = times
        self._clock = clock
        self._by_url: dict[str, UrlKeys] = {}

    def at(self, url: str) -> UrlKeys:
        """The source of that URL; the same one whatever policy asks."""
        return self._by_url.setdefault(url, UrlKeys(url, self._fetch, self._times, self._clock))

    def of(self, source: JwkSet | str) -> KeySource:
        """The source that a policy names: a set of its own, or a URL."""
        return FixedKeys(source) if isinstance(source, JwkSet) else self.at(source)

    async def prefetch(self, urls: Iterable[str]) -> None:
        """Fetch before the first request needs it. A failure is logged and waits for its turn."""
        await asyncio.gather(*(self.at(url).prefetch() for url in set(urls)))

    def keep_only(self, urls: Iterable[str]) -> None:
        """Forget the URLs that no policy names any more. Requests that still wait for one get its answer."""
        for url in self._by_url.keys() - set(urls):
            del self._by_url[url]

    async def close(self) -> None:
        """End what is under way."""
        for source in self._by_url.values():
            await source.close()


def fresh_for_s(headers: Mapping[str, str], times: KeyUrlTimes) -> float:
    """How long an answer is fresh (RFC 9111 sections 4.2.1 and 5.1), seconds, within our bounds."""
    control = headers.get("cache-control", "")
    match = _MAX_AGE.search(control)
    if _NEVER_FRESH.search(control):
        return times.min_age_s
    if match is None:
        return times.default_age_s
    age = headers.get("age", "0")
    spent_s = int(age) if age.isascii() and age.isdigit() and len(age) <= 10 else 0
    return min(max(float(int(match.group(1)) - spent_s), times.min_age_s), times.max_age_s)


def _read(response: FetchResponse) -> JwkSet | JwksProblem:
    if response.status != 200:
        return JwksProblem(f"status {response.status}")
    found = parse_jwks(response.body)
    if isinstance(found, JwkSet) and not found.keys:
        # An issuer without any key is an accident: the old keys serve while it lasts.
        return JwksProblem("the key set has no usable key")
    return found
