"""The backends that every contract is held against: this process, a real Valkey, a real cluster."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from paymesh.payments.limits.demands import LimitStore
from paymesh.payments.limits.in_process import InProcessLimits
from paymesh.payments.nonces import InProcessNonces, NonceStore
from paymesh.payments.orders import InProcessOrders, OrderStore
from paymesh.payments.shared_state.client import SharedState
from paymesh.payments.shared_state.redis_limits import RedisLimits
from paymesh.payments.shared_state.redis_nonces import RedisNonces
from paymesh.payments.shared_state.redis_orders import RedisOrders
from tests.contract.valkey_process import ValkeyProcess, running_cluster, running_valkey

PATIENT_S = 20.0
"""The contract is not about deadlines: a busy machine must not break it."""


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as process:
        yield process


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as process:
        yield process


@pytest.fixture
def unique() -> str:
    """The servers live for the whole session: what a test stores is its own."""
    return uuid.uuid4().hex


@pytest_asyncio.fixture(params=["in_process", "valkey", "cluster"])
async def shared_state(request: pytest.FixtureRequest) -> AsyncIterator[SharedState | None]:
    """None: in process."""
    if request.param == "in_process":
        yield None
        return
    server: ValkeyProcess = request.getfixturevalue(request.param)
    scheme = "redis+cluster" if request.param == "cluster" else "redis"
    state = SharedState(server.url.replace("redis", scheme), timeout_s=PATIENT_S)
    yield state
    await state.close()


@pytest.fixture
def nonces(shared_state: SharedState | None) -> NonceStore:
    return InProcessNonces() if shared_state is None else RedisNonces(shared_state)


@pytest.fixture
def limits(shared_state: SharedState | None) -> LimitStore:
    return InProcessLimits() if shared_state is None else RedisLimits(shared_state)


@pytest.fixture
def orders(shared_state: SharedState | None) -> OrderStore:
    return InProcessOrders() if shared_state is None else RedisOrders(shared_state)
