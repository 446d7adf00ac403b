"""What a release exposed is counted from its begin to its end and a moment longer, whatever dies or comes again; its
receipt is written once that is known."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane.releases.exposures import Exposures
from control_plane.releases.receipt_files import ReceiptFiles
from control_plane.releases.runner import ReleaseRunner
from control_plane.releases.store import ReleaseStore
from paymesh.payments.releases.exposure import Exposure
from paymesh.payments.releases.plan import Hooks
from paymesh.payments.releases.state import OVER, Command, Phase
from tests.unit.control_plane.test_release_runner import PLAN, Clock, Nodes, Others

NAME = PLAN.name


class Site:
    """A control plane's releases over a real store, which may be started again; time passes when told."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.nodes, self.others, self.clock = folder, Nodes(), Others(), Clock()
        self.store = ReleaseStore(folder / "releases.sqlite")
        self.start()

    def start(self) -> None:
        """Memory is empty, the disk is not."""
        self.seen: dict[tuple[str, str], Exposure] = {}
        self.runner = ReleaseRunner(self.store, self.nodes, self.others, self.others, self.clock)
        self.exposures = Exposures(self.store, self.runner, lambda *key: self.seen.get(key, Exposure()))
        self.files = ReceiptFiles(self.folder / "receipts", self.store, self.runner, self.exposures)

    def restart(self) -> None:
        self.store.close()
        self.store = ReleaseStore(self.folder / "releases.sqlite")
        self.start()

    def comes(self, version: str, requests: int, service: str = "trade") -> None:
        """So many payments of one yuan each."""
        more = Exposure(requests, 0, requests, 0, {"CNY": 100 * requests})
        self.seen[service, version] = self.seen.get((service, version), Exposure()) + more

    async def begin(self, name: str = NAME, target: str = "v2") -> None:
        plan = replace(PLAN, name=name, target=target)
        await self.runner.begin(plan, "ann", "try")
        self.exposures.begin(plan)

    async def tell(self, command: Command, name: str = NAME) -> None:
        """As the servicer does."""
        release = await self.runner.tell(name, command, "ann", "because")
        if release.state.phase not in OVER:
            self.exposures.go_on(release.plan)

    async def until(self, phase: Phase, name: str = NAME) -> None:
        """Nothing is counted meanwhile."""
        for _ in range(200):
            if self.runner.get(name).state.phase is phase:
                return
            await self.runner.run_once()
            self.clock.now_s += 1
        raise AssertionError(self.runner.get(name).state)

    async def end(self, name: str = NAME) -> None:
        await self.tell(Command.PROMOTE_FULL, name)
        await self.until(Phase.PROMOTED, name)

    async def settles(self) -> None:
        """The seconds after an end."""
        for _ in range(5):
            await self.exposures.write()

    async def requests(self, name: str = NAME) -> dict[str, int]:
        """By version, as shown; on disk it is the same a second later."""
        shown = await self.exposures.of(self.runner.get(name))
        await self.exposures.write()
        assert await self.exposures.of(self.runner.get(name)) == shown
        for exposure in shown.values():
            assert exposure == Exposure(exposure.requests, 0, exposure.requests, 0, exposure.amounts)
            assert sum(exposure.amounts.values()) == 100 * exposure.requests
        return {version: exposure.requests for version, exposure in shown.items()}

    @property
    def receipts(self) -> dict[str, str]:
        return {file.name: file.read_text() for file in (self.folder / "receipts").glob("*")}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.store.close()


class TestExposures:
    async def test_what_came_before_does_not_count(self, site: Site) -> None:
        site.comes("v1", 1_000)
        await site.begin()
        assert await site.requests() == {"v1": 0, "v2": 0}
        site.comes("v1", 99)
        site.comes("v2", 1)
        site.comes("v2", 50, service="other")
        assert await site.requests() == {"v1": 99, "v2": 1}
        site.comes("v2", 2)
        assert await site.requests() == {"v1": 99, "v2": 3}

    async def test_what_the_access_log_brings_just_after_the_end_does_and_no_more(self, site: Site) -> None:
        await site.begin()
        await site.exposures.write()
        await site.end()
        site.comes("v2", 5)
        await site.exposures.write()
        site.comes("v2", 3)
        await site.exposures.write()
        assert site.exposures.counting(NAME)
        await site.settles()
        assert not site.exposures.counting(NAME)
        site.comes("v2", 1_000)
        assert await site.requests() == {"v1": 0, "v2": 8}

    async def test_a_restarted_process_counts_on(self, site: Site) -> None:
        await site.begin()
        site.comes("v2", 5)
        await site.exposures.write()
        site.comes("v2", 1)  # is lost: no second has passed
        site.restart()
        site.comes("v2", 2)
        assert await site.requests() == {"v1": 0, "v2": 7}

    async def test_of_what_is_over_a_restarted_process_counts_nothing(self, site: Site) -> None:
        await site.begin()
        site.comes("v2", 5)
        await site.exposures.write()
        await site.end()
        site.restart()
        site.comes("v2", 1_000)
        assert await site.requests() == {"v1": 0, "v2": 5}

    async def test_undo_counts_on_but_not_what_came_between(self, site: Site) -> None:
        await site.begin()
        site.comes("v2", 5)
        await site.end()
        await site.settles()
        site.comes("v2", 1_000)
        await site.tell(Command.UNDO)
        site.comes("v2", 2)
        site.comes("v1", 3)
        assert await site.requests() == {"v1": 3, "v2": 7}

    async def test_an_undo_within_the_last_second_loses_nothing(self, site: Site) -> None:
        await site.begin()
        site.comes("v2", 5)
        await site.end()
        await site.exposures.write()
        site.comes("v2", 2)
        await site.tell(Command.UNDO)
        site.comes("v2", 1)
        assert await site.requests() == {"v1": 0, "v2": 8}

    @pytest.mark.parametrize("seconds", [0, 1, 2, 10])
    async def test_a_second_run_of_the_same_name_starts_from_zero(self, site: Site, seconds: int) -> None:
        await site.begin()
        site.comes("v2", 5)
        await site.exposures.write()
        await site.tell(Command.ABORT)
        await site.until(Phase.ROLLED_BACK)
        for _ in range(seconds):
            await site.exposures.write()
        site.comes("v1", 7)
        await site.begin()
        assert await site.requests() == {"v1": 0, "v2": 0}
        site.comes("v2", 2)
        assert await site.requests() == {"v1": 0, "v2": 2}

    async def test_one_that_follows_at_once_is_not_robbed_by_the_last_one(self, site: Site) -> None:
        await site.begin()
        await site.tell(Command.ABORT)
        await site.until(Phase.ROLLED_BACK)
        await site.begin("trade-v2-again")
        site.comes("v2", 4)
        await site.exposures.write()
        site.comes("v2", 2)
        await site.settles()
        site.comes("v2", 1)
        assert await site.requests("trade-v2-again") == {"v1": 0, "v2": 7}

    async def test_a_second_run_with_another_target_counts_that_one_from_zero(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(site.nodes, "versions", lambda _: ("v3", "v1", "v2"))
        site.comes("v3", 1_000)
        await site.begin()
        await site.tell(Command.ABORT)
        await site.until(Phase.ROLLED_BACK)
        await site.begin(target="v3")
        assert await site.requests() == {"v1": 0, "v3": 0}

    async def test_a_version_that_the_policy_loses_just_after_the_end_takes_nothing_back(self, site: Site) -> None:
        await site.begin()
        site.comes("v1", 9)
        await site.exposures.write()
        await site.end()
        del site.seen["trade", "v1"]
        assert await site.requests() == {"v1": 9, "v2": 0}

    async def test_what_the_disk_did_not_take_is_written_later(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await site.begin()
        site.comes("v2", 5)
        with monkeypatch.context() as patch:
            patch.setattr(site.store, "add_exposure", _full)
            with pytest.raises(sqlite3.OperationalError):
                await site.exposures.write()
        assert await site.requests() == {"v1": 0, "v2": 5}


class TestReceiptFiles:
    async def test_it_is_written_once_with_what_came_last(self, site: Site) -> None:
        await site.begin()
        site.comes("v2", 5)
        await site.exposures.write()
        await site.files.write()
        assert site.receipts == {}
        await site.end()
        await site.files.write()
        assert site.receipts == {}, "what the access log tells last is still to come"
        site.comes("v2", 3)
        await site.settles()
        await site.files.write()
        (name,) = site.receipts
        assert name == f"{NAME}.{site.store.changed_at(NAME)}.md"
        assert "| v2 | 8 | 0 | 8 | 0 | 8.00 CNY |" in site.receipts[name]
        (site.folder / "receipts" / name).write_text("kept")
        await site.files.write()
        site.restart()
        await site.files.write()
        assert site.receipts == {name: "kept"}

    async def test_there_is_one_for_each_end(self, site: Site) -> None:
        await site.begin()
        await site.end()
        await site.settles()
        await site.files.write()
        await site.tell(Command.UNDO)
        await site.until(Phase.ROLLED_BACK)
        await site.settles()
        await site.files.write()
        await site.begin()
        await site.files.write()
        await site.end()
        await site.settles()
        await site.files.write()
        heads = [site.receipts[name].splitlines()[0] for name in sorted(site.receipts)]
        assert heads == [f"# Release {NAME}: {end}" for end in ("promoted", "rolled back", "promoted")]

    async def test_what_hooks_are_told_after_the_end_makes_no_second_one(self, site: Site) -> None:
        plan = replace(PLAN, hooks=Hooks(after=("http://deploys.example/",)))
        await site.runner.begin(plan, "ann", "try")
        site.exposures.begin(plan)
        await site.end()
        await site.settles()
        await site.files.write()
        (name,) = site.receipts
        told_at_s = site.store.changed_at(NAME)
        while site.runner.get(NAME).state.hooked < site.runner.get(NAME).state.seq:
            site.clock.now_s += 1
            await site.runner.run_once()
        assert site.store.changed_at(NAME) > told_at_s
        await site.files.write()
        site.restart()
        await site.files.write()
        assert list(site.receipts) == [name]

    async def test_what_cannot_be_written_is_written_later(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        await site.begin()
        await site.end()
        await site.settles()
        (site.folder / "receipts").write_text("in the way")
        await site.files.write()
        (site.folder / "receipts").unlink()
        with monkeypatch.context() as patch:
            patch.setattr(site.store, "history", _full)
            await site.files.write()
        assert site.receipts == {}
        await site.files.write()
        assert len(site.receipts) == 1


def _full(*_: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")
