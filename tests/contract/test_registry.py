"""What every registry of hosts keeps (control_plane/discovery/contract.py). A later registry joins by one more rig."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.discovery.contract import Host, Registry
from control_plane.discovery.endpoint_files import EndpointFiles, UnusableHosts, read_hosts
from paymesh.payments.policy.compiled import Endpoint, Service, ServiceVersion
from paymesh.payments.policy.upstreams import Upstream

ONE, TWO = Host("10.0.0.1", 80), Host("10.0.0.2", 80, weight=3, zone="b")


class Rig(Protocol):
    """A registry with a hand on what stands in it."""

    registry: Registry
    version: ServiceVersion

    def put(self, hosts: list[Host]) -> None: ...

    def damage(self) -> None: ...

    def remove(self) -> None: ...


class FilesRig:
    def __init__(self, folder: Path) -> None:
        self.registry: Registry = EndpointFiles()
        self._file = folder / "hosts.json"
        self.version = ServiceVersion("v1", (), 10_000, endpoints_file=self._file)

    def put(self, hosts: list[Host]) -> None:
        documents = [{"address": h.address, "port": h.port, "weight": h.weight, "zone": h.zone} for h in hosts]
        beside = self._file.with_suffix(".new")
        beside.write_text(json.dumps(documents))
        beside.replace(self._file)

    def damage(self) -> None:
        self._file.write_text("- {address: 10.0.0.1")

    def remove(self) -> None:
        self._file.unlink()


@pytest.fixture(params=[FilesRig], ids=["files"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    return request.param(tmp_path)  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def following(rig: Rig) -> AsyncIterator[list[tuple[Host, ...]]]:
    """What it yields, as it comes."""
    service = Service("bank", (rig.version,), Upstream(1000))
    told: list[tuple[Host, ...]] = []

    async def follow() -> None:
        async for hosts in rig.registry.hosts(service, rig.version):
            told.append(hosts)

    task = asyncio.create_task(follow())
    try:
        yield told
        assert not task.done(), "nothing ends but by cancellation"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not look():
            await asyncio.sleep(0.02)


async def test_it_knows_whose_hosts_it_finds(rig: Rig) -> None:
    assert rig.registry.finds(rig.version)
    assert not rig.registry.finds(ServiceVersion("v1", (Endpoint("10.0.0.1", 80),), 10_000))


async def test_hosts_come_sorted_and_whole(rig: Rig) -> None:
    rig.put([TWO, ONE])
    async with following(rig) as told:
        await until(lambda: told == [(ONE, TWO)])


async def test_what_is_not_there_yet_is_waited_for(rig: Rig) -> None:
    async with following(rig) as told:
        await until(lambda: "bank|v1" in rig.registry.problems)
        assert told == []
        rig.put([ONE])
        await until(lambda: told == [(ONE,)])
        assert rig.registry.problems == {}


async def test_changes_are_told_and_repetitions_are_not(rig: Rig) -> None:
    rig.put([ONE, TWO])
    async with following(rig) as told:
        await until(lambda: len(told) == 1)
        rig.put([TWO, ONE])
        await asyncio.sleep(0.6)
        rig.put([ONE])
        await until(lambda: told == [(ONE, TWO), (ONE,)])


@pytest.mark.parametrize("bad", ["empty", "damaged", "removed"])
async def test_an_empty_or_broken_answer_takes_nothing_away(rig: Rig, bad: str) -> None:
    rig.put([ONE])
    async with following(rig) as told:
        await until(lambda: told == [(ONE,)])
        {"empty": lambda: rig.put([]), "damaged": rig.damage, "removed": rig.remove}[bad]()
        await until(lambda: "bank|v1" in rig.registry.problems)
        assert told == [(ONE,)]
        rig.put([ONE])
        await until(lambda: rig.registry.problems == {})
        assert told == [(ONE,)], "the same again is no change"


# -- what a file may say -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file: Input should be a valid tuple"),
        ("[]", "names no host"),
        ("- {address: 10.0.0.1, port: 80}\n- {address: 10.0.0.1, port: 80, weight: 2}", "names a host twice"),
        ("- {address: bank.internal, port: 80}", "[0].address: Value error, 'bank.internal' does not appear to be"),
        ("- {address: 10.0.0.1, port: '80'}", "[0].port: Input should be a valid integer"),
        ("- {address: 10.0.0.1, port: 80, wieght: 2}", "[0].wieght: Extra inputs are not permitted"),
        ("- {address: 10.0.0.1, port: 80, weight: 0}", "[0].weight: Input should be greater than or equal to 1"),
        ("- {address: 10.0.0.1", "is no YAML: "),
    ],
)
async def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(UnusableHosts) as raised:
        read_hosts(text)
    assert str(raised.value).startswith(message)


@given(
    st.lists(
        st.builds(
            Host,
            st.ip_addresses().map(str),
            st.integers(1, 65535),
            st.integers(1, 128),
            st.sampled_from(["", "a", "b"]),
        ),
        min_size=1,
        max_size=20,
        unique_by=lambda host: (host.address, host.port),
    )
)
def test_whatever_is_written_is_read(hosts: list[Host]) -> None:
    documents = [{"address": h.address, "port": h.port, "weight": h.weight, "zone": h.zone} for h in hosts]
    assert read_hosts(json.dumps(documents)) == tuple(sorted(hosts))
