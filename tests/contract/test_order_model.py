"""In-process and shared orders give the same answers to any sequence of calls."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from paymesh.payments.orders import Attempt, Finish, InProcessOrders, OrderTerms, Settled
from paymesh.payments.shared_state.client import SharedState
from paymesh.payments.shared_state.redis_orders import RedisOrders
from tests.contract.conftest import PATIENT_S
from tests.contract.valkey_process import ValkeyProcess

KEYS = ("pay:1", "pay:2", "idempotency:1")
CHANNELS = st.sampled_from([None, "wechat", "alipay"])
TERMS = st.sampled_from([None, OrderTerms(100, "CNY", None, "s"), OrderTerms(200, "CNY", "a", None)])
LEASES = st.sampled_from([0, 5, 30])
LIFETIMES = st.sampled_from([-1, 0, 10, 100])


class _SameAnswers(RuleBasedStateMachine):
    server: ValkeyProcess  # set by the test

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.state = self.runner.run(self._connected())
        self.stores = (InProcessOrders(), RedisOrders(self.state))
        self.owner = uuid.uuid4().hex
        self.now_s = int(time.time())
        self.numbers = itertools.count()

    async def _connected(self) -> SharedState:
        return SharedState(self.server.url, timeout_s=PATIENT_S)

    def teardown(self) -> None:
        self.runner.run(self.state.close())
        self.runner.close()

    @rule(
        keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique=True),
        fingerprint=st.sampled_from(["aa", "bb"]),
        terms=TERMS,
        channel=CHANNELS,
        lease_s=LEASES,
        lifetime_s=LIFETIMES,
    )
    def begin(
        self,
        keys: list[str],
        fingerprint: str,
        terms: OrderTerms | None,
        channel: str | None,
        lease_s: int,
        lifetime_s: int,
    ) -> None:
        number, until_s = str(next(self.numbers)), self.now_s + lifetime_s
        attempts = [Attempt(self.owner, key, fingerprint, number, terms, channel, lease_s, until_s) for key in keys]
        here, there = (self.runner.run(store.begin(attempts, self.now_s)) for store in self.stores)
        assert here == there

    @rule(
        keys=st.lists(st.sampled_from(KEYS), max_size=3),
        back=st.integers(0, 3),
        finish=st.sampled_from(Finish),
    )
    def finish(self, keys: list[str], back: int, finish: Finish) -> None:
        attempt_id = str(next(self.numbers) - 1 - back)
        for store in self.stores:
            self.runner.run(store.finish(self.owner, keys, attempt_id, finish))

    @rule(key=st.sampled_from(KEYS), settled=st.sampled_from(Settled))
    def settle(self, key: str, settled: Settled) -> None:
        for store in self.stores:
            self.runner.run(store.settle(self.owner, key, settled, self.now_s))

    @rule(seconds=st.sampled_from([1, 5, 6, 10, 31, 101]))
    def time_passes(self, seconds: int) -> None:
        self.now_s += seconds

    @invariant()
    def the_same_stands(self) -> None:
        for key in KEYS:
            here, there = (self.runner.run(store.find(self.owner, key, self.now_s)) for store in self.stores)
            assert here == there


def test_both_backends_answer_alike(valkey: ValkeyProcess) -> None:
    _SameAnswers.server = valkey
    run_state_machine_as_test(
        _SameAnswers,
        settings=settings(
            max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
