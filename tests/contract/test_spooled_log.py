"""An event log that is away, and the file in which events wait for it. The log is a real Valkey that is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from paymesh.payments.denial import Unavailable
from paymesh.payments.events.log import START, EventLog
from paymesh.payments.events.open_log import open_log
from paymesh.payments.events.spooled_log import SpooledLog
from paymesh.payments.events.sqlite_log import SqliteLog
from paymesh.payments.events.types import Notified, Result
from tests.contract.test_event_log import PATIENT_S, attempted, ended, offline
from tests.contract.valkey_process import ValkeyProcess, running_valkey

DURABLE = ("appendonly yes", "appendfsync always")


@dataclass
class Site:
    valkey: ValkeyProcess
    sink: EventLog
    log: SpooledLog
    other: SpooledLog
    """Of another process: ext_proc's."""

    async def handed_on(self) -> list[str]:
        """Waits for it; then the ids that the log has, in their order."""
        async with asyncio.timeout(30):
            while True:
                try:
                    found = [one.event.id for one in await self.sink.read(START)]
                    await self.log.drain_once()
                except Unavailable:
                    await asyncio.sleep(0.05)
                    continue
                if not self.log.waiting and found:
                    return [one.event.id for one in await self.sink.read(START)]


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    def spooled(max_events: int = 5) -> SpooledLog:
        spool = SqliteLog(tmp_path / "spool.sqlite", deadline_s=PATIENT_S)
        return SpooledLog(open_log(valkey.url, 0.5), spool, lambda route: route == "patient", max_events)

    with running_valkey(tmp_path, *DURABLE) as valkey:
        made = Site(valkey, open_log(valkey.url, PATIENT_S), spooled(), spooled())
        await made.log.prepare()
        await made.other.prepare()
        yield made
        for log in (made.log, made.other, made.sink):
            await log.close()


async def test_what_may_wait_waits_and_is_handed_on_in_order(site: Site) -> None:
    before, waiting = attempted("before", route="patient"), attempted("w", 1, route="patient", order_no="ORDER-2")
    assert await site.log.attempt(before) is None
    site.valkey.kill()
    with pytest.raises(Unavailable):
        await site.log.attempt(attempted("refused", route="strict", order_no="ORDER-9"))
    assert await site.log.attempt(waiting) is None
    assert await site.other.end(ended(waiting, Result.SUCCEEDED)), "the other service finds it"
    with pytest.raises(Unavailable):  # the log may know of it
        await site.other.end(ended(before, Result.SUCCEEDED))
    site.valkey.start()
    assert await site.handed_on() == ["before-0:attempted", "w-1:attempted", "w-1:ended"]
    (known,) = await site.sink.of_order("shop-w", "ORDER-2")
    assert known.result is Result.SUCCEEDED
    async with asyncio.timeout(30):
        while True:
            try:
                assert await site.log.end(ended(before, Result.SUCCEEDED))
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def test_an_order_that_waits_keeps_its_channel_before_and_after_it_is_handed_on(site: Site) -> None:
    site.valkey.kill()
    assert await site.log.attempt(attempted("x", 1, route="patient")) is None
    assert await site.log.attempt(attempted("x", 2, route="patient", channel="alipay")) == "wechat"
    site.valkey.start()
    await site.handed_on()
    assert await site.log.attempt(attempted("x", 3, route="patient", channel="alipay")) == "wechat"


async def test_an_attempt_that_left_is_adopted_though_its_order_went_elsewhere(site: Site) -> None:
    await site.log.attempt(attempted("x", 1))
    assert await site.sink.adopt(attempted("x", 2, channel="alipay"))
    assert not await site.sink.adopt(attempted("x", 2, channel="alipay"))
    assert [one.attempted.channel for one in await site.sink.of_order("shop-x", "ORDER-1")] == ["wechat", "alipay"]


async def test_no_more_wait_than_may(site: Site) -> None:
    site.valkey.kill()
    for number in range(5):
        await site.log.attempt(attempted("many", number, route="patient", order_no=str(number)))
    with pytest.raises(Unavailable, match="5 wait already"):
        await site.log.attempt(attempted("many", 5, route="patient", order_no="5"))
    site.valkey.start()
    assert len(await site.handed_on()) == 5
    assert await site.log.attempt(attempted("many", 6, route="patient", order_no="6")) is None


async def test_a_notification_waits_too(site: Site) -> None:
    notice = Notified(
        notice_id="n", at_us=5, merchant="shop", route="patient", channel="wechat", order_no="ORDER-1",
        result=Result.SUCCEEDED, amount=100, currency="CNY",
    )  # fmt: skip
    site.valkey.kill()
    assert await site.log.notify(notice)
    site.valkey.start()
    assert await site.handed_on() == ["wechat:n:notified"]
    assert not await site.log.notify(notice)


async def test_what_waited_when_a_process_died_is_handed_on_by_another(site: Site) -> None:
    site.valkey.kill()
    await site.log.attempt(attempted("left", 1, route="patient"))
    assert site.log._draining is not None
    site.log._draining.cancel()  # as if it had died here
    site.valkey.start()
    async with asyncio.timeout(30):
        while True:
            try:
                if await site.sink.of_order("shop-left", "ORDER-1"):
                    return
            except Unavailable:
                pass
            await asyncio.sleep(0.05)


async def test_an_offline_payment_never_waits(site: Site) -> None:
    first = offline("spooled")
    assert await site.log.record(first) is None
    site.valkey.kill()
    for one in (first, offline("spooled", 1)):
        with pytest.raises(Unavailable):
            await site.log.record(one)
    assert not site.log.waiting
    site.valkey.start()
    async with asyncio.timeout(30):
        while True:
            try:
                assert await site.other.record(offline("spooled", at_us=7)) == first
                assert await site.log.recorded(first.merchant, first.reference) == first
                break
            except Unavailable:
                await asyncio.sleep(0.05)
