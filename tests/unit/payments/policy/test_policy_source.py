"""Hot reload: one reference swapped, a bad policy refused, every file that matters watched."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from paymesh.payments.credentials.verifiers import HmacSha256Secret
from paymesh.payments.policy.callers import KeyKind, KeyRef
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.problems import PolicyErrors, PolicyProblem
from paymesh.payments.policy.source import PolicySource

MERCHANT = """
merchants:
  - id: shop
    credentials: [{{scheme: hmac, key_id: {key_id}, secret: {{file: {file}}}}}]
"""


def write(folder: Path, key_id: str = "one", file: str = "a.key") -> Path:
    (folder / "policy.yaml").write_text(MERCHANT.format(key_id=key_id, file=file))
    return folder


def key_ids(source: PolicySource) -> list[str]:
    return [ref.name for ref in source.current.keys]


def secret_of(source: PolicySource, key_id: str) -> bytes:
    (key,) = source.current.keys[KeyRef(KeyKind.HMAC, key_id)]
    assert isinstance(key.verifier, HmacSha256Secret)
    return key.verifier.secret.reveal()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.key").write_text("a secret of sixteen bytes or more")
    return write(tmp_path)


async def test_a_change_is_in_force_within_a_second_and_the_old_object_is_untouched(folder: Path) -> None:
    source = PolicySource([folder], {})
    before = source.current
    watcher = asyncio.create_task(source.watch())
    try:
        await asyncio.sleep(0.05)
        write(folder, "two")
        began = time.monotonic()
        while source.current is before and time.monotonic() - began < 5:
            await asyncio.sleep(0.01)
        assert key_ids(source) == ["two"]
        assert [ref.name for ref in before.keys] == ["one"]
        assert source.current.version != before.version
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher


async def test_a_bad_policy_is_refused_whole_and_the_old_one_stays(folder: Path) -> None:
    source = PolicySource([folder], {})
    before = source.current
    (folder / "policy.yaml").write_text("merchants: [{id: shop}]\nroutes: [{}]\n")
    assert not await source.poll()
    assert source.current is before
    assert len(source.last_problems) >= 3
    assert source.failures == 1
    await source.poll()
    assert source.failures == 1, "the same problems are counted and logged once"
    write(folder, "three")
    assert await source.poll()
    assert not source.last_problems


async def test_a_changed_secret_is_a_changed_policy(folder: Path) -> None:
    source = PolicySource([folder], {})
    await source.poll()
    (folder / "a.key").write_text("another secret of sixteen bytes or more")
    assert await source.poll()
    assert secret_of(source, "one").startswith(b"another")


async def test_a_file_that_was_missing_is_waited_for(folder: Path) -> None:
    source = PolicySource([folder], {})
    write(folder, "two", "later.key")
    await source.poll()
    assert "cannot be read" in str(source.last_problems[0])
    await source.poll()
    (folder / "later.key").write_text("a later secret of sixteen bytes")
    await source.poll()
    assert key_ids(source) == ["two"]


async def test_whoever_is_told_of_a_new_policy_may_refuse_it(folder: Path) -> None:
    source = PolicySource([folder], {})
    problem = PolicyProblem("policy.yaml", 1, "", "not while a release runs")

    async def refuse(_: Policy) -> None:
        raise PolicyErrors([problem])

    write(folder, "two")
    assert not await source.poll(refuse)
    assert source.last_problems == (problem,)
    assert key_ids(source) == ["one"]


async def test_a_bug_in_whoever_is_told_does_not_end_the_watching(folder: Path) -> None:
    source, calls = PolicySource([folder], {}), 0

    async def fail_once(_: Policy) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError

    watcher = asyncio.create_task(source.watch(fail_once))
    try:
        write(folder, "two")
        began = time.monotonic()
        while key_ids(source) != ["two"] and time.monotonic() - began < 5:
            await asyncio.sleep(0.01)
        assert key_ids(source) == ["two"]
        assert calls == 2
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher


def test_a_file_added_to_the_folder_is_read(folder: Path) -> None:
    source = PolicySource([folder], {})
    asyncio.run(source.poll())
    (folder / "more.yaml").write_text("rate_limits: [{name: slow, requests_per_second: 1, burst: 1}]\n")
    assert asyncio.run(source.poll())


def test_the_first_policy_must_be_good(tmp_path: Path) -> None:
    with pytest.raises(PolicyErrors):
        PolicySource([tmp_path], {})
