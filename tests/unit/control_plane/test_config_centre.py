"""The configuration centre by its own API and command: applied, compared, in conflict, refused, taken back."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from control_plane.config import config_pb2_grpc
from control_plane.config.centre import ConfigCentre, seeded
from control_plane.config.service import ConfigService
from control_plane.config.store import NONE, UNFINISHED, ConfigConflict, ConfigStore
from control_plane.gateway import Gateway
from control_plane.settings import GatewaySettings
from control_plane.weights import WeightStore
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.problems import PolicyErrors, PolicyProblem
from paymesh.payments.policy.source import OnReload, PolicySource
from paymesh.server.policy_resource import Documents, version_of
from paymesh.server.policy_subscription import PolicyCache

SETTINGS = GatewaySettings(("127.0.0.1", 8080), (("127.0.0.1", 9001),), (("127.0.0.1", 9002),), "/dev/stdout")
SERVICES = "services: [{name: a, versions: [{name: v1, endpoints: [{address: 10.0.0.1, port: 80}]}]}]\n"
ROUTES = "routes: [{name: %s, match: {prefix: /a/}, operation: other, service: a}]\n"


def documents(route: str) -> Documents:
    return (("a.yaml", SERVICES), ("b.yaml", ROUTES % route))


# -- the store -----------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> ConfigStore:
    return ConfigStore(tmp_path / "configurations.sqlite")


def test_what_is_applied_is_there_after_a_restart(store: ConfigStore, tmp_path: Path) -> None:
    assert store.current() is None
    first = store.record(documents("one"), NONE, "ann", "begin")
    second = store.record(documents("two"), first.version, "bob", "go on")
    again = ConfigStore(tmp_path / "configurations.sqlite")
    assert again.current() == second
    assert [(one.actor, one.before) for one in again.history()] == [("bob", first.version), ("ann", NONE)]
    assert again.get(first.version[:6]) == first
    assert again.get("nothing") is None
    assert second.documents == documents("two")


def test_of_two_changes_to_one_version_one_wins(store: ConfigStore) -> None:
    first = store.record(documents("one"), NONE, "ann", "begin")
    store.record(documents("two"), first.version, "bob", "was first")
    second = version_of(documents("two"))
    with pytest.raises(ConfigConflict, match=f"version {second} is in force, not {first.version}"):
        store.record(documents("three"), first.version, "cem", "was late")
    assert len(store.history()) == 2


def test_what_was_refused_is_kept_and_not_in_force(store: ConfigStore) -> None:
    first = store.record(documents("one"), NONE, "ann", "begin")
    second = store.record(documents("two"), first.version, "bob", "go on")
    store.refuse(second.number, "Envoy said no")
    assert store.current() == first
    assert store.history()[0].refused == "Envoy said no"
    store.record(documents("three"), first.version, "bob", "better")


def test_a_reason_is_required(store: ConfigStore) -> None:
    with pytest.raises(ValueError, match="a reason is required"):
        store.record(documents("one"), NONE, "ann", " ")


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no database " * 100)
    with pytest.raises(sqlite3.DatabaseError):
        ConfigStore(tmp_path / "x")


def test_what_was_begun_is_in_force_only_when_it_is_finished(store: ConfigStore, tmp_path: Path) -> None:
    first = store.record(documents("one"), NONE, "ann", "begin")
    second = store.begin(documents("two"), first.version, "bob", "go on")
    killed = ConfigStore(tmp_path / "configurations.sqlite")
    assert killed.current() == first
    assert killed.history()[0].refused == UNFINISHED
    store.finish(second.number)
    assert killed.current() == dataclasses.replace(second, refused=None)


def test_the_first_policy_is_not_read_where_there_is_a_newer_one(store: ConfigStore, tmp_path: Path) -> None:
    store.record(documents("one"), NONE, "ann", "begin")

    def gone() -> Documents:
        raise PolicyErrors([PolicyProblem("policy.yaml", 0, "", "no such file")])

    folder = PolicyCache(tmp_path / "policy", {})
    seeded(store, folder, gone)
    assert folder.documents() == documents("one")


class Centre:
    """A centre whose policies come into force as `on_reload` says."""

    def __init__(self, store: ConfigStore, folder: Path, on_reload: OnReload) -> None:
        self.store, self.folder = store, PolicyCache(folder / "policy", {})
        seeded(store, self.folder, lambda: documents("one"))
        self.centre = ConfigCentre(store, self.folder, PolicySource([self.folder.files], {}), on_reload)

    async def apply(self, route: str, before: str) -> None:
        await self.centre.apply(documents(route), version_of(documents(before)), "ann", "a test", dry_run=False)


async def test_a_caller_that_hangs_up_lets_nobody_in_before_its_change_ended(
    store: ConfigStore, tmp_path: Path
) -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def refuse_two(policy: Policy) -> None:
        if policy.routes[0].name == "two":
            entered.set()
            await release.wait()
            raise PolicyErrors([PolicyProblem("(service ext_authz)", 0, "", "not this one")])

    site = Centre(store, tmp_path, refuse_two)
    gone = asyncio.create_task(site.apply("two", "one"))
    await entered.wait()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    after = asyncio.create_task(site.apply("three", "one"))
    await asyncio.sleep(0.05)
    assert not after.done()
    release.set()
    await after
    current = store.current()
    assert current is not None
    assert site.folder.documents() == current.documents == documents("three")
    assert [one.refused is None for one in store.history()] == [True, False, True]


async def test_what_ends_in_an_error_is_not_published_later(store: ConfigStore, tmp_path: Path) -> None:
    async def fail(policy: Policy) -> None:
        if policy.routes[0].name == "two":
            raise RuntimeError("nobody thought of this")

    site = Centre(store, tmp_path, fail)
    with pytest.raises(RuntimeError, match="nobody thought"):
        await site.apply("two", "one")
    assert site.folder.documents() == documents("one")
    await site.apply("three", "one")


# -- by the command ------------------------------------------------------------------------------------------------


class Site:
    def __init__(self, folder: Path, address: str, gateway: Gateway, store: ConfigStore) -> None:
        self.folder, self.address, self.gateway, self.store = folder, address, gateway, store
        self.refuse: str | None = None

    async def use_policy(self, policy: Policy) -> None:
        if self.refuse is not None:
            raise PolicyErrors([PolicyProblem("(service ext_authz)", 0, "", self.refuse)])
        await self.gateway.use_policy(policy)

    def files(self, route: str) -> str:
        folder = self.folder / f"files-{route.replace('/', '_')}"
        folder.mkdir(exist_ok=True)
        for name, text in documents(route):
            (folder / name).write_text(text)
        return str(folder)

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "paymesh.cli", "config", *arguments, "--admin", self.address),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def apply(self, route: str, if_version: str, *more: str, reason: str = "a test") -> tuple[int, str, str]:
        flags = ("--if-version", if_version, "--reason", reason, "--actor", "ann")
        return await self.command("apply", self.files(route), *flags, *more)

    @property
    def routes(self) -> list[str]:
        return [route.name for route in self.gateway.policy.routes]


@pytest.fixture
async def site(tmp_path: Path, store: ConfigStore) -> AsyncIterator[Site]:
    folder = PolicyCache(tmp_path / "policy", {})
    seeded(store, folder, lambda: documents("one"))
    source = PolicySource([folder.files], {})
    weights = WeightStore(tmp_path / "weights.sqlite")
    gateway = Gateway(source.current, weights, SETTINGS)
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    built = Site(tmp_path, f"127.0.0.1:{port}", gateway, store)
    centre = ConfigCentre(store, folder, source, built.use_policy)
    config_pb2_grpc.add_ConfigCentreServicer_to_server(ConfigService(gateway, centre), server)
    await server.start()
    yield built
    await server.stop(None)
    weights.close()
    store.close()


async def test_a_change_is_shown_recorded_and_in_force(site: Site) -> None:
    first = version_of(documents("one"))
    code, out, _ = await site.apply("two", first, "--dry-run")
    assert (code, site.routes) == (0, ["one"])
    assert "-routes: [{name: one," in out
    assert "+routes: [{name: two," in out
    code, out, _ = await site.apply("two", first)
    assert code == 0
    assert out.endswith(f"{first} -> {version_of(documents('two'))}\n")
    assert site.routes == ["two"]
    code, out, _ = await site.command("history", "-o", "json")
    shown = json.loads(out)
    assert [(one["actor"], one["reason"], one["in_force"]) for one in shown] == [
        ("ann", "a test", True),
        ("paymesh", "first start", False),
    ]


async def test_concurrent_edits_conflict_with_an_exit_code_of_their_own(site: Site) -> None:
    first = version_of(documents("one"))
    results = await asyncio.gather(*(site.apply(name, first) for name in ("two", "three", "four")))
    assert sorted(code for code, _, _ in results) == [0, 3, 3]
    refused = next(err for code, _, err in results if code == 3)
    assert f"not {first}" in refused
    assert len(site.store.history()) == 2


async def test_a_bad_policy_is_refused_with_every_error_and_nothing_is_recorded(site: Site) -> None:
    code, _, err = await site.apply("a/b", version_of(documents("one")))
    assert code == 1
    assert err.startswith("b.yaml:1: routes[0].name: ")
    assert site.routes == ["one"]
    assert len(site.store.history()) == 1


async def test_what_a_service_refuses_is_recorded_as_refused_and_the_old_one_stays(site: Site) -> None:
    site.refuse = "elsewhere.yaml:2: no such key"
    code, _, err = await site.apply("two", version_of(documents("one")))
    site.refuse = None
    assert code == 1
    assert "no such key" in err
    assert site.routes == ["one"]
    _, out, _ = await site.command("history")
    assert "refused" in out
    assert (await site.apply("three", version_of(documents("one"))))[0] == 0


async def test_an_earlier_version_is_applied_again(site: Site) -> None:
    first = version_of(documents("one"))
    await site.apply("two", first)
    second = version_of(documents("two"))
    flags = ("--if-version", second, "--reason", "back")
    code, out, _ = await site.command("rollback", first[:8], *flags)
    assert code == 0
    assert "+routes: [{name: one," in out
    assert site.routes == ["one"]
    code, out, _ = await site.command("diff", second)
    assert "-routes: [{name: two," in out
    code, out, _ = await site.command("show")
    assert out.startswith(f"# version {first}\n# a.yaml\n")


async def test_what_cannot_be_done_is_said(site: Site) -> None:
    first = version_of(documents("one"))
    assert (await site.apply("two", first, reason=""))[0] == 1
    code, _, err = await site.command("rollback", "ffff", "--if-version", first, "--reason", "x")
    assert (code, err) == (2, "no version ffff, or several begin so\n")
    code, _, err = await site.command("dump", "nobody")
    assert (code, err) == (2, "no node nobody is connected (known: none)\n")


async def test_a_control_plane_that_follows_files_says_so(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(SERVICES)
    store = WeightStore(tmp_path / "weights.sqlite")
    gateway = Gateway(PolicySource([tmp_path / "policy.yaml"], {}).current, store, SETTINGS)
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    config_pb2_grpc.add_ConfigCentreServicer_to_server(ConfigService(gateway, None), server)
    await server.start()
    site = Site(tmp_path, f"127.0.0.1:{port}", gateway, ConfigStore(tmp_path / "c.sqlite"))
    code, _, err = await site.command("history")
    assert code == 2
    assert "--config-centre" in err
    await server.stop(None)
    store.close()
    site.store.close()
