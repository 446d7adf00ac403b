"""In-process and shared limits admit exactly what an exact reference admits, over any sequence of calls."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from paymesh.payments.limits.demands import Demand, Instant, LimitStore, Quota, Slot, Tokens
from paymesh.payments.limits.in_process import InProcessLimits
from paymesh.payments.policy.callers import TokenRate
from paymesh.payments.shared_state.client import SharedState
from paymesh.payments.shared_state.redis_limits import RedisLimits
from tests.contract.conftest import PATIENT_S
from tests.contract.valkey_process import ValkeyProcess

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
RATES = st.builds(
    TokenRate, st.sampled_from([1, 3, 7, 999, 300_001, 1_000_000]), st.sampled_from([1, 60]), st.integers(1, 6)
)
GAPS_US = st.one_of(st.integers(0, 10), st.integers(0, 3 * SECOND_US), st.integers(0, DAY_US), st.just(10**12))
WANTED = st.fixed_dictionaries(
    {},
    optional={
        "a": st.tuples(RATES, st.integers(1, 3), st.booleans()),
        "b": st.tuples(RATES, st.integers(1, 3), st.booleans()),
        "slots": st.integers(1, 3),
        "more slots": st.integers(1, 3),
        "day": st.tuples(st.integers(1, 20), st.integers(0, 9)),
    },
).filter(bool)
BEGINS_S = 8 * 3600
LEASE_S = 3600


@dataclass
class Exact:
    """Fractions of a token; everybody who holds a slot, until when; what each day's requests spent."""

    levels: dict[tuple[tuple[str, ...], int], tuple[Fraction, int]] = field(default_factory=dict)
    slots: dict[tuple[str, ...], dict[str, int]] = field(default_factory=dict)
    spent: dict[tuple[str, ...], dict[str, tuple[int, int]]] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)

    def take(self, demands: Sequence[Demand], request_id: str, now_us: int) -> tuple[bool, set[str]]:
        """Whether the request is admitted, and the shadows that would have refused."""
        holds = any(not isinstance(demand, Tokens) for demand in demands)
        if holds and request_id in self.over:
            return True, set()
        lacking = [demand for demand in demands if not self._met(demand, now_us)]
        shadowed = {demand.limit for demand in lacking if not demand.enforced}
        if any(demand.enforced for demand in lacking):
            for demand in demands:
                if isinstance(demand, Tokens) and demand.count_refused:
                    level = max(self.level(demand, now_us) - demand.cost, Fraction(-demand.rate.burst))
                    self.levels[demand.bucket] = (level, now_us)
            return False, shadowed
        for demand in demands:
            if demand in lacking:
                continue
            if isinstance(demand, Tokens):
                self.levels[demand.bucket] = (self.level(demand, now_us) - demand.cost, now_us)
            elif isinstance(demand, Slot):
                self.slots.setdefault(demand.key, {})[request_id] = now_us + demand.lease_s * SECOND_US
            elif isinstance(demand, Quota):
                self.spent.setdefault(demand.key, {})[request_id] = (_day(now_us), demand.cost)
        return True, shadowed

    def end(self, request_id: str, *, known: bool, carried_out: bool) -> None:
        for held in self.slots.values():
            held.pop(request_id, None)
        if not known:
            self.over.add(request_id)
        for key, spent in self.spent.items():
            if request_id in spent and not carried_out:
                del self.spent[key][request_id]

    def level(self, demand: Tokens, now_us: int) -> Fraction:
        burst = Fraction(demand.rate.burst)
        level, at_us = self.levels.get(demand.bucket, (burst, now_us))
        return min(burst, level + Fraction((now_us - at_us) * demand.rate.tokens, SECOND_US * demand.rate.per_s))

    def held(self, key: tuple[str, ...], now_us: int) -> int:
        return sum(until_us > now_us for until_us in self.slots.get(key, {}).values())

    def spent_on(self, key: tuple[str, ...], now_us: int) -> int:
        return sum(cost for day, cost in self.spent.get(key, {}).values() if day == _day(now_us))

    def _met(self, demand: Demand, now_us: int) -> bool:
        if isinstance(demand, Tokens):
            return self.level(demand, now_us) >= demand.cost
        if isinstance(demand, Slot):
            return self.held(demand.key, now_us) < demand.max
        assert isinstance(demand, Quota)
        return self.spent_on(demand.key, now_us) + demand.cost <= demand.max


def _day(now_us: int) -> int:
    return (now_us + BEGINS_S * SECOND_US) // DAY_US


class _AsTheModel(RuleBasedStateMachine):
    server: ValkeyProcess  # set by the test

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.state = self.runner.run(self._connected())
        self.stores: tuple[LimitStore, ...] = (InProcessLimits(), RedisLimits(self.state, clock_of_caller=True))
        self.model = Exact()
        self.caller = uuid.uuid4().hex
        self.now_us = 10 * SECOND_US
        self.requests: list[tuple[str, list[tuple[str, ...]]]] = []
        self.ended: set[str] = set()

    async def _connected(self) -> SharedState:
        return SharedState(self.server.url, timeout_s=PATIENT_S)

    def teardown(self) -> None:
        self.runner.run(self.state.close())
        self.runner.close()

    @property
    def now(self) -> Instant:
        return Instant(self.now_us * 1000, self.now_us // SECOND_US)

    @rule(gap_us=GAPS_US, wanted=WANTED, enforced=st.booleans(), times=st.integers(1, 4))
    def take(self, gap_us: int, wanted: dict[str, object], enforced: bool, times: int) -> None:
        self.now_us += gap_us
        demands = [self._demand(name, size, enforced or name != "a") for name, size in sorted(wanted.items())]
        for _ in range(times):
            request_id = uuid.uuid4().hex
            self._take(demands, request_id)

    def _take(self, demands: Sequence[Demand], request_id: str) -> None:
        expected = self.model.take(demands, request_id, self.now_us)
        held = []
        for store in self.stores:
            taken = self.runner.run(store.take(demands, request_id, self.now))
            assert (taken.admitted, {demand.limit for demand in taken.shadowed}) == expected, type(store)
            held.append(taken.held)
        self.requests.append((request_id, held))

    def _demand(self, name: str, size: object, enforced: bool) -> Demand:
        key = (name, self.caller)
        if isinstance(size, int):
            return Slot(key=key, enforced=enforced, max=size, lease_s=LEASE_S)
        assert isinstance(size, tuple)
        if len(size) == 2:
            return Quota(key=key, enforced=enforced, max=size[0], cost=size[1], day_begins_s=BEGINS_S)
        rate, cost, counted = size
        return Tokens(key=key, enforced=enforced, rate=rate, cost=cost, count_refused=counted)

    @rule(which=st.integers(0, 50), known=st.booleans(), carried_out=st.booleans())
    def end(self, which: int, known: bool, carried_out: bool) -> None:
        if not self.requests:
            return
        request_id, held = self.requests[which % len(self.requests)]
        # What the log says of a request it says once, but for whether it knew what was held.
        carried_out = carried_out or request_id in self.ended
        self.ended.add(request_id)
        self.model.end(request_id, known=known, carried_out=carried_out)
        for store, one in zip(self.stores, held, strict=True):
            known_held = one if known else None
            self.runner.run(store.end(request_id, known_held, carried_out=carried_out, now=self.now))

    @rule(wanted=WANTED)
    def end_before_the_beginning(self, wanted: dict[str, object]) -> None:
        request_id = uuid.uuid4().hex
        self.model.end(request_id, known=False, carried_out=False)
        for store in self.stores:
            self.runner.run(store.end(request_id, None, carried_out=False, now=self.now))
        self._take([self._demand(name, size, enforced=True) for name, size in sorted(wanted.items())], request_id)

    @invariant()
    def as_much_is_used(self) -> None:
        slots, day = ("slots", self.caller), ("day", self.caller)
        asked = [Slot(key=slots, max=1, lease_s=1), Quota(key=day, max=1, day_begins_s=BEGINS_S)]
        expected = [self.model.held(slots, self.now_us), self.model.spent_on(day, self.now_us)]
        for store in self.stores:
            used = self.runner.run(store.look(asked, self.now))
            assert [one.used for one in used] == expected, type(store)


def test_every_store_admits_what_an_exact_reference_admits(valkey: ValkeyProcess) -> None:
    machine = type("Machine", (_AsTheModel,), {"server": valkey})
    bounds = settings(
        max_examples=100,
        stateful_step_count=15,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    run_state_machine_as_test(machine, settings=bounds)


async def test_a_clock_that_was_set_back_neither_fills_nor_blocks(valkey: ValkeyProcess, unique: str) -> None:
    state = SharedState(valkey.url, timeout_s=PATIENT_S)
    try:
        store, one = RedisLimits(state, clock_of_caller=True), Tokens(key=("limit", unique), rate=TokenRate(1, 1, 2))

        async def admitted(at_s: int) -> bool:
            return (await store.take([one], "r", Instant(at_s * 1_000_000_000, at_s))).admitted

        assert [await admitted(at_s) for at_s in (1000, 1000, 1000)] == [True, True, False]
        assert [await admitted(at_s) for at_s in (500, 500, 501, 501)] == [False, False, True, False]
    finally:
        await state.close()
