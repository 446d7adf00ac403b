"""The last good snapshot comes back whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.xds.last_good import LastGood, Saving
from control_plane.xds.snapshot import Snapshot
from tests.xds.test_ads_stream import snapshot


def kept() -> Snapshot:
    found = snapshot()
    return Snapshot(found.resources, found.versions, {"trade": {"v2": 1, "v1": 9_999}})


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    store = LastGood(tmp_path / "last")
    assert store.load() is None
    store.save(kept())
    found = store.load()
    assert found == kept()
    assert found is not None
    assert list(found.weights["trade"]) == ["v2", "v1"], "the order of versions is part of it"


@pytest.mark.parametrize("at", [0, 30, 60, -1])
def test_a_damaged_one_is_not_believed(tmp_path: Path, at: int, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "last"
    LastGood(file).save(kept())
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    assert LastGood(file).load() is None
    assert "damaged" in caplog.text


def test_half_of_one_is_not_believed(tmp_path: Path) -> None:
    file = tmp_path / "last"
    LastGood(file).save(kept())
    file.write_bytes(file.read_bytes()[:-10])
    assert LastGood(file).load() is None


def test_the_newest_is_saved_and_a_full_disk_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = LastGood(tmp_path / "last")
    with Saving(store) as saving:
        saving.save(snapshot(routes=b"older"))
        saving.save(kept())
    assert store.load() == kept()
    with Saving(LastGood(tmp_path / "no such folder" / "last")) as saving:
        saving.save(kept())
    assert "is not saved" in caplog.text
