"""Owns the one client of shared state: a deadline for every call, a circuit breaker, and the truth about both.

Refuses to wait longer than the deadline for anything: a free connection, connecting, sending, the answer. What cannot
be had is `Unavailable`, whose text names the kind of failure and never a key or a value. A call that was cut off may
have been carried out all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import hashlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from redis.exceptions import NoScriptError, ReadOnlyError, RedisClusterException, RedisError, ResponseError

from paymesh.payments.denial import Unavailable
from paymesh.payments.secrets import Secret
from paymesh.payments.shared_state.address import Topology, parse_state_url
from paymesh.payments.shared_state.breaker import Breaker, BreakerState
from paymesh.payments.shared_state.connections import Argument, CannotConnect, servers_at
from paymesh.payments.shared_state.keys import PREFIX

_LOG = logging.getLogger(__name__)
TIMEOUT_S = 0.05
CONNECT_TIMEOUT_S = 1.0
"""For a probe, which no payment waits for: TLS, a sentinel that hangs and the next one fit in."""
_STEP_TIMEOUT_S = 0.3
_JITTER = 0.25  # of the pause: many gateways must not ask in step


class Outcome(enum.StrEnum):
    """How a call ended."""

    OK = "ok"
    TIMEOUT = "timeout"
    CONNECT = "connect"
    """No connection: refused, unknown host, wrong password."""
    CONNECTION = "connection"
    """The connection broke; the command may have been carried out."""
    ANSWER = "answer"
    """The server answered with an error: out of memory, read only, loading."""
    OPEN = "open"
    """Not tried: the circuit breaker is open."""
    SPENT = "spent"
    """Not tried: the request's earlier calls took all the time that one call may take."""


NOT_TRIED = frozenset({Outcome.OPEN, Outcome.SPENT})


@dataclass(slots=True)
class _Waited:
    """Time in which at least one call was under way."""

    seconds: float = 0.0
    calls: int = 0
    since: float = 0.0

    def begin(self) -> None:
        if not self.calls:
            self.since = time.monotonic()
        self.calls += 1

    def end(self) -> None:
        self.calls -= 1
        if not self.calls:
            self.seconds += time.monotonic() - self.since


_WAITED: ContextVar[_Waited | None] = ContextVar("waited", default=None)


def bound_waiting() -> None:
    """From here on all calls of this task together, and of those that it starts, wait no longer than one call may.

    A request that asks shared state several times is then held up for one deadline at most. Work that outlives it
    belongs in a context of its own.
    """
    _WAITED.set(_Waited())


class Observer(Protocol):
    """Told of every call and every change, between two steps of the event loop: must be quick and must not raise."""

    def called(self, outcome: Outcome, seconds: float) -> None: ...

    def changed(self, state: BreakerState) -> None: ...


@dataclass(frozen=True, slots=True)
class SharedStateStatus:
    """What the client saw since it began. `last_s`: how long the last call took that was tried, in seconds."""

    state: BreakerState
    calls: Mapping[Outcome, int]
    last_s: float | None


class Script:
    """A Lua script, known to the server by its SHA-1 (EVALSHA's own choice)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class SharedState:
    """Calls to the Redis or Valkey at an address (`address.py`). Makes its own connections, and makes them again."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        password: Secret | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        failures_to_open: int = 5,
        pause_s: float = 0.25,
        observer: Observer | None = None,
    ) -> None:
        """`failures_to_open`: consecutive. `pause_s`: between probes. ValueError for a URL that cannot be used."""
        # A step may last as long as a call at least: whoever is patient with calls is so with connecting.
        step_timeout_s = max(min(_STEP_TIMEOUT_S, connect_timeout_s), timeout_s)
        address = parse_state_url(url, password)
        self.is_cluster = address.topology is Topology.CLUSTER
        self._servers = servers_at(address, step_timeout_s)
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._pause_s = pause_s
        self._observer = observer
        self._breaker = Breaker(failures_to_open)
        self._recovery: asyncio.Task[None] | None = None
        self._calls = dict.fromkeys(Outcome, 0)
        self._last_s: float | None = None
        self._eviction_said = False

    @property
    def state(self) -> BreakerState:
        return self._breaker.state

    @property
    def status(self) -> SharedStateStatus:
        return SharedStateStatus(self.state, dict(self._calls), self._last_s)

    async def start(self) -> bool:
        """Connect; True if it worked. If not, the breaker is open and goes on trying."""
        well = await self._probe()
        if not well:
            self._fail(at_once=True)
        self._notify()
        return well

    async def close(self) -> None:
        """Close every connection. Calls are Unavailable afterwards."""
        if self._recovery is not None:
            self._recovery.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._recovery
        self._breaker.failed(at_once=True)
        with contextlib.suppress(RedisError, OSError):
            await self._servers.close()

    async def call(self, *command: Argument) -> Any:
        """The answer to one command. Raises Unavailable."""
        return await self._tried(lambda: self._servers.execute(*command))

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """A script's answer. All keys must be in one slot. Raises Unavailable."""
        return await self._tried(lambda: self._evaluate(script, keys, arguments))

    async def _evaluate(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        try:
            return await self._servers.execute("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # a new server: it knows the script from now on
            return await self._servers.execute("EVAL", script.text, len(keys), *keys, *arguments)

    async def _tried(self, work: Callable[[], Awaitable[Any]]) -> Any:
        if self._breaker.state is not BreakerState.CLOSED:
            self._count(Outcome.OPEN, 0.0)
            raise Unavailable("shared state: circuit breaker open")
        waited = _WAITED.get()
        left_s = self._timeout_s
        if waited is not None:
            left_s -= waited.seconds
            if left_s <= 0:
                self._count(Outcome.SPENT, 0.0)
                raise Unavailable("shared state: the time that a request may wait for it is spent")
            waited.begin()
        began = time.monotonic()
        try:
            async with asyncio.timeout(left_s):
                answer = await work()
        except _FAILURES as error:
            outcome = _outcome(error)
            self._count(outcome, time.monotonic() - began)
            self._fail(at_once=isinstance(error, CannotConnect | ReadOnlyError))
            raise Unavailable(f"shared state: {outcome}, {_kind(error)}") from error
        finally:
            if waited is not None:
                waited.end()
        self._breaker.succeeded()
        self._count(Outcome.OK, time.monotonic() - began)
        return answer

    def _fail(self, at_once: bool) -> None:
        if self._breaker.failed(at_once):
            self._say_state(logging.WARNING)
            self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        while self._breaker.state is not BreakerState.CLOSED:
            # Connections to a server that hung, or that is no longer the master, are not worth a probe each.
            await self._servers.reset()
            await asyncio.sleep(self._pause_s * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - no secret
            self._breaker.probing()
            self._notify()
            self._breaker.probed(await self._probe())
            self._notify()
        self._say_state(logging.INFO)

    async def _probe(self) -> bool:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                # A write: a replica and a full server answer a PING.
                await self._servers.execute("SET", f"{PREFIX}probe", b"", "PX", 1000)
                await self._look_at_eviction()
        except _FAILURES as error:
            _LOG.debug("shared state probe failed", extra={"fields": {"error": type(error).__name__}})
            return False
        return True

    async def _look_at_eviction(self) -> None:
        if self._eviction_said:
            return
        try:
            policy = _eviction_policy(await self._servers.execute("INFO", "memory"))
        except ResponseError:  # not permitted to know
            policy = None
        self._eviction_said = True
        if policy is not None and policy != "noeviction":
            why = "a nonce that the server drops lets its request in twice: set maxmemory-policy noeviction"
            _LOG.warning("shared state may be evicted", extra={"fields": {"policy": policy, "why": why}})

    def _count(self, outcome: Outcome, seconds: float) -> None:
        self._calls[outcome] += 1
        if outcome not in NOT_TRIED:
            self._last_s = seconds
        if self._observer is not None:
            self._observer.called(outcome, seconds)

    def _say_state(self, level: int) -> None:
        _LOG.log(level, "shared state breaker", extra={"fields": {"state": self.state.value}})
        self._notify()

    def _notify(self) -> None:
        if self._observer is not None:
            self._observer.changed(self.state)


_FAILURES = (TimeoutError, OSError, RedisError, RedisClusterException, CannotConnect)


def _outcome(error: BaseException) -> Outcome:
    if isinstance(error, TimeoutError):  # of asyncio.timeout; the driver's is a RedisError
        return Outcome.TIMEOUT
    if isinstance(error, CannotConnect):
        return Outcome.CONNECT
    return Outcome.ANSWER if isinstance(error, ResponseError) else Outcome.CONNECTION


def _kind(error: BaseException) -> str:
    return type(error.__cause__ or error).__name__ if isinstance(error, CannotConnect) else type(error).__name__


def _eviction_policy(info: Any) -> str | None:
    if isinstance(info, Mapping):  # redis-py's cluster client reads it for us
        value = info.get("maxmemory_policy")
        return None if value is None else str(value)
    for line in bytes(info).splitlines():
        name, _, value = line.partition(b":")
        if name == b"maxmemory_policy":
            return value.decode("ascii", "replace").strip()
    return None
