"""The client of shared state when its server is dead, frozen, slow or full: no call outlives its deadline, no answer
is another call's, and it comes back by itself."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from paymesh.payments.denial import Unavailable
from paymesh.payments.orders import Attempt, Begun
from paymesh.payments.secrets import Secret
from paymesh.payments.shared_state.breaker import BreakerState
from paymesh.payments.shared_state.client import Outcome, SharedState
from paymesh.payments.shared_state.connections import MAX_CONNECTIONS
from paymesh.payments.shared_state.redis_orders import RedisOrders
from tests.contract.conftest import PATIENT_S
from tests.contract.slow_proxy import SlowProxy
from tests.contract.valkey_process import HOST, ValkeyProcess, running_valkey

TIMEOUT_S = 0.05
LATE_S = 0.02
"""By how much a call may miss its deadline, beyond what the machine itself was late: half of the calls of a test, since
a machine that is busy with other tests stops a process for longer now and then."""


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyProcess]:
    """One that the test may kill."""
    with running_valkey(tmp_path) as process:
        yield process


@asynccontextmanager
async def client(url: str, **options: Any) -> Any:
    options.setdefault("timeout_s", TIMEOUT_S)
    state = SharedState(url, **{"pause_s": 0.05, **options})
    try:
        yield state
    finally:
        await state.close()


async def lateness_s(call: Awaitable[object], deadline_s: float) -> float:
    """Seconds by which `call` ended after its deadline, less those by which a plain sleep did at the same time."""

    async def timed(what: Awaitable[object]) -> float:
        began = time.monotonic()
        with suppress(Unavailable):
            await what
        return time.monotonic() - began

    call_s, sleep_s = await asyncio.gather(timed(call), timed(asyncio.sleep(deadline_s)))
    return call_s - max(deadline_s, sleep_s)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENT_S):
        while not condition():
            await asyncio.sleep(0.01)


async def usable_again(state: SharedState) -> None:
    await until(lambda: state.state is BreakerState.CLOSED)
    assert await state.call("GET", "paymesh:nothing") is None


async def test_frozen_every_call_ends_in_time_and_it_recovers(own_valkey: ValkeyProcess) -> None:
    async with client(own_valkey.url) as state:
        assert await state.start()
        own_valkey.freeze()
        late = []
        for number in range(5):
            assert state.state is BreakerState.CLOSED, number
            late.append(await lateness_s(state.call("GET", "paymesh:k"), TIMEOUT_S))
        assert median(late) < LATE_S
        assert state.state is BreakerState.OPEN
        assert state.status.calls[Outcome.TIMEOUT] == 5
        with pytest.raises(Unavailable, match="breaker open"):
            await state.call("GET", "paymesh:k")
        own_valkey.thaw()
        await usable_again(state)


async def test_frozen_hundreds_at_once_end_in_time(own_valkey: ValkeyProcess) -> None:
    async with client(own_valkey.url, timeout_s=0.2, failures_to_open=10_000) as state:
        await state.start()
        own_valkey.freeze()
        # More than there are connections: waiting for one counts, too.
        late = await asyncio.gather(*(lateness_s(state.call("GET", "paymesh:k"), 0.2) for _ in range(300)))
        assert median(late) < LATE_S
        own_valkey.thaw()
        await usable_again(state)


async def test_open_it_answers_at_once_and_asks_nobody(own_valkey: ValkeyProcess) -> None:
    async with client(own_valkey.url, pause_s=60) as state:
        await state.start()
        own_valkey.kill()
        while state.state is BreakerState.CLOSED:  # the first one may find the connection broken, not refused
            with pytest.raises(Unavailable):
                await state.call("GET", "paymesh:k")
        fastest = min([await _seconds(state) for _ in range(100)])
        assert fastest < 0.001
        assert state.status.calls[Outcome.OPEN] >= 100


async def _seconds(state: SharedState) -> float:
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await state.call("GET", "paymesh:k")
    return time.monotonic() - began


async def test_killed_it_opens_and_recovers_after_a_restart(own_valkey: ValkeyProcess) -> None:
    async with client(own_valkey.url) as state:
        orders = RedisOrders(state)
        attempt = Attempt("m", "k", "aa", "r", None, None, 30, int(time.time()) + 100)
        assert (await orders.begin([attempt], int(time.time()))).begun is Begun.NEW
        own_valkey.kill()
        late = [await lateness_s(orders.begin([attempt], int(time.time())), TIMEOUT_S) for _ in range(5)]
        assert median(late) < LATE_S
        assert state.state is not BreakerState.CLOSED
        own_valkey.start()
        await until(lambda: state.state is BreakerState.CLOSED)
        # The new process knows neither the order nor the script.
        assert (await orders.begin([attempt], int(time.time()))).begun is Begun.NEW


async def test_restarted_while_nobody_looked_nobody_notices(own_valkey: ValkeyProcess) -> None:
    async with client(own_valkey.url, timeout_s=PATIENT_S) as state:
        await asyncio.gather(*(state.call("GET", "paymesh:k") for _ in range(20)))
        own_valkey.kill()
        own_valkey.start()
        await asyncio.sleep(0.05)  # the ends of the connections arrive
        await asyncio.gather(*(state.call("GET", "paymesh:k") for _ in range(20)))
        assert state.status.calls[Outcome.OK] == 40


async def test_a_refused_connection_opens_it_at_once() -> None:
    with socket.socket() as closed:
        closed.bind((HOST, 0))  # bound and not listening: refused
        async with client(f"redis://{HOST}:{closed.getsockname()[1]}", pause_s=60) as state:
            with pytest.raises(Unavailable, match="connect, ConnectionError"):
                await state.call("GET", "paymesh:k")
            assert state.state is BreakerState.OPEN


async def test_a_server_that_is_not_there_at_the_start(own_valkey: ValkeyProcess) -> None:
    own_valkey.kill()
    async with client(own_valkey.url) as state:
        assert not await state.start()
        assert state.state is BreakerState.OPEN
        own_valkey.start()
        await usable_again(state)


async def test_slow_within_the_deadline_is_good_beyond_it_is_not(valkey: ValkeyProcess) -> None:
    async with SlowProxy(valkey.port).running() as proxy, client(proxy.url, timeout_s=0.5) as state:
        proxy.delay_s = lambda: 0.1
        await state.call("GET", "paymesh:k")
        proxy.delay_s = lambda: 2.0
        late = [await lateness_s(state.call("GET", "paymesh:k"), 0.5) for _ in range(3)]
        assert median(late) < LATE_S
        assert state.status.calls[Outcome.TIMEOUT] == 3
        assert (state.status.last_s or 0) >= 0.5


async def test_a_late_answer_is_nobody_elses(valkey: ValkeyProcess) -> None:
    async with (
        SlowProxy(valkey.port).running() as proxy,
        client(proxy.url, timeout_s=0.05, failures_to_open=10_000) as state,
    ):
        proxy.delay_s = lambda: random.choice([0.0, 0.0, 0.04, 0.06, 0.1])
        answered = missed = 0

        async def ask(number: int) -> None:
            nonlocal answered, missed
            try:
                assert await state.call("ECHO", f"{number}") == str(number).encode()
                answered += 1
            except Unavailable:
                missed += 1

        for round_ in range(10):
            await asyncio.gather(*(ask(100 * round_ + number) for number in range(50)))
        assert answered > 20
        assert missed > 20


async def test_a_callers_cancellation_leaves_no_answer_behind(valkey: ValkeyProcess) -> None:
    async with SlowProxy(valkey.port).running() as proxy, client(proxy.url, timeout_s=PATIENT_S) as state:
        await state.call("ECHO", "first")
        proxy.delay_s = lambda: 0.05
        cancelled = asyncio.create_task(state.call("ECHO", "cancelled"))
        await asyncio.sleep(0.02)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert [await state.call("ECHO", str(number)) for number in range(3)] == [b"0", b"1", b"2"]
        assert state.status.calls[Outcome.TIMEOUT] == 0


async def test_there_are_never_more_connections_than_allowed(valkey: ValkeyProcess) -> None:
    async with SlowProxy(valkey.port).running() as proxy, client(proxy.url, timeout_s=PATIENT_S) as state:
        proxy.delay_s = lambda: 0.005
        await asyncio.gather(*(state.call("GET", "paymesh:k") for _ in range(4 * MAX_CONNECTIONS)))
        assert proxy.connections == MAX_CONNECTIONS


async def test_one_probe_at_a_time_whatever_the_callers_do(own_valkey: ValkeyProcess) -> None:
    async with SlowProxy(own_valkey.port).running() as proxy, client(proxy.url, connect_timeout_s=60) as state:
        await state.call("GET", "paymesh:k")
        own_valkey.freeze()
        while state.state is BreakerState.CLOSED:
            with pytest.raises(Unavailable):
                await state.call("GET", "paymesh:k")
        await until(lambda: state.state is BreakerState.HALF_OPEN)
        before = bytes(proxy.received).count(b"paymesh:k")
        for _ in range(100):
            with pytest.raises(Unavailable, match="breaker open"):
                await state.call("GET", "paymesh:k")
            await asyncio.sleep(0.001)
        assert bytes(proxy.received).count(b"paymesh:probe") == 1
        assert bytes(proxy.received).count(b"paymesh:k") == before
        own_valkey.thaw()
        await usable_again(state)


async def test_open_it_drops_the_connections_it_had(own_valkey: ValkeyProcess) -> None:
    # Else each of them costs a probe, when the server that hangs has been replaced.
    async with SlowProxy(own_valkey.port).running() as proxy, client(proxy.url, timeout_s=1, pause_s=60) as state:
        proxy.delay_s = lambda: 0.05
        await asyncio.gather(*(state.call("GET", "paymesh:k") for _ in range(20)))
        assert proxy.open == 20
        own_valkey.freeze()
        await asyncio.gather(*(state.call("GET", "paymesh:k") for _ in range(5)), return_exceptions=True)
        assert state.state is BreakerState.OPEN
        await until(lambda: proxy.open == 0)


async def test_scripts_that_the_server_forgot_are_sent_again(own_valkey: ValkeyProcess) -> None:
    async with client(own_valkey.url, timeout_s=PATIENT_S) as state:
        orders = RedisOrders(state)
        for number in range(2):
            attempt = Attempt("m", f"k{number}", "aa", "r", None, None, 30, int(time.time()) + 100)
            assert (await orders.begin([attempt], int(time.time()))).begun is Begun.NEW
            own_valkey.ask("SCRIPT", "FLUSH")
        assert state.status.calls == {**dict.fromkeys(Outcome, 0), Outcome.OK: 2}


async def test_a_full_server_is_unavailable_until_there_is_room(
    own_valkey: ValkeyProcess, caplog: pytest.LogCaptureFixture
) -> None:
    own_valkey.ask("CONFIG", "SET", "maxmemory", "1")
    async with client(own_valkey.url, timeout_s=PATIENT_S) as state:
        for _ in range(5):
            with pytest.raises(Unavailable, match="answer, OutOfMemoryError"):
                await state.call("SET", "paymesh:k", b"v")
        assert state.state is not BreakerState.CLOSED
        own_valkey.ask("CONFIG", "SET", "maxmemory", "0")
        await usable_again(state)


async def test_a_master_turned_replica_is_left_at_its_first_refusal(own_valkey: ValkeyProcess) -> None:
    async with client(own_valkey.url, timeout_s=PATIENT_S) as state:
        await state.start()
        own_valkey.ask("REPLICAOF", HOST, "1")
        with pytest.raises(Unavailable, match="answer, ReadOnlyError"):
            await state.call("SET", "paymesh:k", b"v")
        assert state.state is not BreakerState.CLOSED  # a probe that only reads would close it
        await asyncio.sleep(0.2)
        assert state.state is not BreakerState.CLOSED
        own_valkey.ask("REPLICAOF", "NO", "ONE")
        await usable_again(state)


class TestPassword:
    @pytest.fixture
    def guarded(self, tmp_path: Path) -> Iterator[ValkeyProcess]:
        with running_valkey(tmp_path, "requirepass hunter2") as process:
            yield process

    async def test_the_right_one(self, guarded: ValkeyProcess) -> None:
        async with client(guarded.url, password=Secret(b"hunter2"), timeout_s=PATIENT_S) as state:
            assert await state.start()
        async with client(guarded.url.replace("//", "//default:hunter2@") + "/1", timeout_s=PATIENT_S) as state:
            assert await state.start()

    @pytest.mark.parametrize("password", [None, Secret(b"hunter3")])
    async def test_a_wrong_one_is_shown_nowhere(
        self, guarded: ValkeyProcess, password: Secret | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        async with client(guarded.url, password=password, timeout_s=PATIENT_S, failures_to_open=1) as state:
            with pytest.raises(Unavailable) as refused:
                await state.call("GET", "paymesh:k")
            assert not await state.start()
        assert "hunter" not in str(refused.value)
        assert "hunter" not in caplog.text


class TestEviction:
    @pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
    async def test_a_server_that_may_drop_nonces_is_said_once(
        self, own_valkey: ValkeyProcess, policy: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        own_valkey.ask("CONFIG", "SET", "maxmemory-policy", policy)
        async with client(own_valkey.url, timeout_s=PATIENT_S, connect_timeout_s=PATIENT_S) as state:
            assert await state.start()
            assert await state.start()
        said = [line for line in caplog.records if "evicted" in line.getMessage()]
        assert [line.levelname for line in said] == ["WARNING"]
        assert said[0].__dict__["fields"]["policy"] == policy

    async def test_nothing_is_said_otherwise(self, own_valkey: ValkeyProcess, caplog: pytest.LogCaptureFixture) -> None:
        async with client(own_valkey.url, timeout_s=PATIENT_S, connect_timeout_s=PATIENT_S) as state:
            assert await state.start()
        assert "evicted" not in caplog.text

    async def test_one_who_may_not_ask_starts_all_the_same(self, own_valkey: ValkeyProcess) -> None:
        own_valkey.ask("ACL", "SETUSER", "gateway", "on", ">p", "~paymesh:*", "+set", "+get")
        url = own_valkey.url.replace("//", "//gateway:p@")
        async with client(url, timeout_s=PATIENT_S, connect_timeout_s=PATIENT_S) as state:
            assert await state.start()


async def test_a_client_that_was_closed_is_unavailable(own_valkey: ValkeyProcess) -> None:
    async with client(own_valkey.url) as state:
        await state.start()
        await state.close()
        with pytest.raises(Unavailable):
            await state.call("GET", "paymesh:k")
        own_valkey.kill()
        await asyncio.sleep(0.1)
        assert state.state is BreakerState.OPEN


async def test_the_observer_sees_calls_and_changes(own_valkey: ValkeyProcess) -> None:
    class Seen:
        def __init__(self) -> None:
            self.outcomes: list[Outcome] = []
            self.states: list[BreakerState] = []

        def called(self, outcome: Outcome, seconds: float) -> None:
            assert seconds >= 0
            self.outcomes.append(outcome)

        def changed(self, state: BreakerState) -> None:
            self.states.append(state)

    seen = Seen()
    async with client(own_valkey.url, failures_to_open=1, timeout_s=0.2, observer=seen) as state:
        assert await state.start()
        await state.call("GET", "paymesh:k")
        own_valkey.freeze()
        with pytest.raises(Unavailable):
            await state.call("GET", "paymesh:k")
        with pytest.raises(Unavailable):
            await state.call("GET", "paymesh:k")
        own_valkey.thaw()
        await usable_again(state)
    assert seen.outcomes == [Outcome.OK, Outcome.TIMEOUT, Outcome.OPEN, Outcome.OK]
    assert seen.states[:3] == [BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN]
    assert seen.states[-1] is BreakerState.CLOSED
