"""The ways a Redis or Valkey is reached: a Unix socket, TLS, sentinels that name the master, a cluster."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from paymesh.payments.denial import Unavailable
from paymesh.payments.orders import Attempt, Begun
from paymesh.payments.shared_state.breaker import BreakerState
from paymesh.payments.shared_state.client import SharedState
from paymesh.payments.shared_state.redis_orders import RedisOrders
from tests.contract.conftest import PATIENT_S
from tests.contract.slow_proxy import SlowProxy
from tests.contract.valkey_process import HOST, ValkeyProcess, running_cluster, running_sentinel, running_valkey

FAILOVER_S = 60.0


def attempt(key: str = "k") -> Attempt:
    return Attempt("m", key, "aa", "r", None, None, 30, int(time.time()) + 1000)


async def until_closed(state: SharedState) -> None:
    async with asyncio.timeout(FAILOVER_S):
        while state.state is not BreakerState.CLOSED:
            await asyncio.sleep(0.02)


async def until_answered(state: SharedState) -> None:
    """Calls go on, as a gateway's do, until one is answered."""
    async with asyncio.timeout(FAILOVER_S):
        while True:
            try:
                await state.call("GET", "paymesh:k")
            except Unavailable:
                await asyncio.sleep(0.02)
            else:
                return


async def test_a_unix_socket_and_a_database(valkey: ValkeyProcess, unique: str) -> None:
    # The kernel takes paths of 107 bytes, and pytest's folders may be longer: reached by way of /proc.
    url = f"unix:///proc/self/cwd/{valkey.socket_path.name}?db=2"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(valkey.socket_path.parent)
        state = SharedState(url, timeout_s=PATIENT_S)
        try:
            await state.call("SET", unique, b"v", "PX", 10_000)
        finally:
            await state.close()
    assert valkey.ask("GET", unique) == b"$-1\r\n"  # database 0


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A file with a certificate for 127.0.0.1 that signed itself, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "valkey")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    file, key_file = tmp_path / "certificate.pem", tmp_path / "key.pem"
    file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key_file)
    return file, context


async def test_tls_with_the_authority_that_was_named(
    valkey: ValkeyProcess, unique: str, certificate: tuple[Path, ssl.SSLContext]
) -> None:
    file, context = certificate
    async with SlowProxy(valkey.port, context).running() as proxy:
        state = SharedState(f"rediss://{HOST}:{proxy.port}?ssl_ca_certs={file}", timeout_s=PATIENT_S)
        try:
            answers = await asyncio.gather(*(state.call("ECHO", f"{unique}{number}") for number in range(20)))
            assert answers == [f"{unique}{number}".encode() for number in range(20)]
        finally:
            await state.close()


async def test_tls_refuses_whom_nobody_vouches_for(
    valkey: ValkeyProcess, certificate: tuple[Path, ssl.SSLContext]
) -> None:
    file, context = certificate
    async with SlowProxy(valkey.port, context).running() as proxy:
        for url in (f"rediss://{HOST}:{proxy.port}", f"rediss://localhost:{proxy.port}?ssl_ca_certs={file}"):
            state = SharedState(url, timeout_s=PATIENT_S)
            try:
                with pytest.raises(Unavailable, match="shared state: connect, "):
                    await state.call("GET", "paymesh:k")
            finally:
                await state.close()
        assert b"paymesh" not in proxy.received


@dataclass(frozen=True)
class Watched:
    master: ValkeyProcess
    replica: ValkeyProcess
    sentinel: ValkeyProcess

    @property
    def url(self) -> str:
        return f"redis+sentinel://{HOST}:{self.sentinel.port}/pay"


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A master, its replica, and a sentinel that decides alone."""
    folders = [tmp_path / name for name in ("master", "replica", "sentinel")]
    for folder in folders:
        folder.mkdir()
    with ExitStack() as stack:
        master = stack.enter_context(running_valkey(folders[0], "repl-diskless-sync-delay 0"))
        replica = stack.enter_context(running_valkey(folders[1], f"replicaof {HOST} {master.port}"))
        wait_for(lambda: replica.ask("INFO", "replication"), b"master_link_status:up")
        sentinel = stack.enter_context(running_sentinel(folders[2], master))
        wait_for(lambda: sentinel.ask("INFO", "sentinel"), b"slaves=1")
        yield Watched(master, replica, sentinel)


def wait_for(ask: Callable[[], bytes], expected: bytes) -> None:
    deadline = time.monotonic() + 3 * PATIENT_S  # a sentinel looks every ten seconds, and later on a busy machine
    while expected not in (seen := ask()):
        assert time.monotonic() < deadline, seen.decode()
        time.sleep(0.02)


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_the_next_master_is_found_and_knows_the_orders(watched: Watched, how: str) -> None:
    state = SharedState(watched.url, timeout_s=0.5, pause_s=0.05)
    try:
        assert await state.start()
        orders = RedisOrders(state)
        assert (await orders.begin([attempt()], int(time.time()))).begun is Begun.NEW
        watched.master.ask("WAIT", "1", "5000")  # else the order may be lost with its master
        getattr(watched.master, how)()
        await until_answered(state)
        assert b"role:master" in watched.replica.ask("INFO", "replication")
        assert (await orders.begin([attempt()], int(time.time()))).begun is Begun.IN_PROGRESS
    finally:
        await state.close()


@pytest.fixture
def sentinels(valkey: ValkeyProcess, tmp_path: Path) -> Iterator[tuple[ValkeyProcess, ...]]:
    """Two that watch a server without replicas."""
    with ExitStack() as stack:
        folders = [tmp_path / name for name in ("s1", "s2")]
        for folder in folders:
            folder.mkdir()
        yield tuple(stack.enter_context(running_sentinel(folder, valkey)) for folder in folders)


def sentinel_url(sentinels: tuple[ValkeyProcess, ...], name: str) -> str:
    return f"redis+sentinel://{','.join(f'{HOST}:{sentinel.port}' for sentinel in sentinels)}/{name}"


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_a_sentinel_less_is_no_loss(sentinels: tuple[ValkeyProcess, ...], unique: str, how: str) -> None:
    getattr(sentinels[0], how)()
    state = SharedState(sentinel_url(sentinels, "pay"), timeout_s=0.5)
    try:
        assert await state.start()
        assert (await RedisOrders(state).begin([attempt(unique)], int(time.time()))).begun is Begun.NEW
    finally:
        await state.close()


async def test_a_planned_failover_is_followed(watched: Watched) -> None:
    state = SharedState(watched.url, timeout_s=0.5, pause_s=0.05)
    try:
        assert await state.start()
        wait_for(lambda: watched.sentinel.ask("SENTINEL", "FAILOVER", "pay"), b"+OK")  # it must know the replica
        wait_for(lambda: watched.master.ask("INFO", "replication"), b"role:slave")
        await until_answered(state)  # a GET, which the former master would answer
        assert await state.call("SET", "paymesh:k", b"v") == b"OK"
        assert watched.replica.ask("GET", "paymesh:k") == b"$1\r\nv\r\n"
    finally:
        await state.close()


async def test_a_master_that_no_sentinel_knows(sentinels: tuple[ValkeyProcess, ...]) -> None:
    state = SharedState(sentinel_url(sentinels, "other"), timeout_s=PATIENT_S)
    try:
        with pytest.raises(Unavailable, match="connect, MasterNotFoundError"):
            await state.call("GET", "paymesh:k")
    finally:
        await state.close()


async def test_what_sentinels_still_call_master_is_asked_whether_it_is(tmp_path: Path) -> None:
    for name in ("server", "sentinel"):
        tmp_path.joinpath(name).mkdir()
    with (
        running_valkey(tmp_path / "server") as server,
        running_sentinel(tmp_path / "sentinel", server) as sentinel,
    ):
        state = SharedState(sentinel_url((sentinel,), "pay"), timeout_s=PATIENT_S)
        try:
            server.ask("REPLICAOF", HOST, "1")
            # On a busy machine the sentinel may hold the server to be down: that is no answer of a replica either.
            with pytest.raises(Unavailable, match=r"connect, (ConnectionError|MasterNotFoundError)"):
                await state.call("GET", "paymesh:k")  # a replica would answer
        finally:
            await state.close()


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[ValkeyProcess]:
    with running_cluster(tmp_path) as process:
        yield process


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_a_cluster_comes_back(own_cluster: ValkeyProcess, how: str) -> None:
    state = SharedState(own_cluster.url.replace("redis", "redis+cluster"), timeout_s=0.2, pause_s=0.05)
    try:
        assert await state.start()
        orders = RedisOrders(state)
        assert (await orders.begin([attempt("a"), attempt("b")], int(time.time()))).begun is Begun.NEW
        getattr(own_cluster, how)()
        for _ in range(5):
            began = time.monotonic()
            with pytest.raises(Unavailable):
                await orders.begin([attempt()], int(time.time()))
            assert time.monotonic() - began < 5  # lateness proper: test_shared_state_failures
        assert state.state is not BreakerState.CLOSED
        own_cluster.start() if how == "kill" else own_cluster.thaw()
        await until_closed(state)
        await until_answered(state)
        expected = Begun.NEW if how == "kill" else Begun.IN_PROGRESS
        assert (await orders.begin([attempt("a")], int(time.time()))).begun is expected
    finally:
        await state.close()


async def test_no_cluster_node_answers(valkey: ValkeyProcess) -> None:
    state = SharedState(valkey.url.replace("redis", "redis+cluster"), timeout_s=0.5)  # a server that is no cluster
    try:
        assert not await state.start()
        with pytest.raises(Unavailable):
            await state.call("GET", "paymesh:k")
    finally:
        await state.close()
