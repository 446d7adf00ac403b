"""What every OrderStore promises, a test a sentence."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from paymesh.payments.orders import (
    Attempt,
    BeginAnswer,
    Begun,
    Finish,
    OrderRecord,
    OrderStore,
    OrderTerms,
    Settled,
)

NOW = int(time.time())
LEASE_S = 30
A_DAY_S = 86_400
TERMS = OrderTerms(100, "CNY", "app", "seller")
OTHER_TERMS = OrderTerms(200, "CNY", None, None)


@dataclass(frozen=True)
class Shop:
    """Attempts of one merchant, with defaults."""

    owner: str
    numbers: itertools.count[int]

    def attempt(
        self,
        key: str = "pay:ORD1",
        fingerprint: str = "aa",
        attempt_id: str | None = None,
        terms: OrderTerms | None = TERMS,
        channel: str | None = "wechat",
        expires_at_s: int = NOW + A_DAY_S,
    ) -> Attempt:
        attempt_id = attempt_id or f"request-{next(self.numbers)}"
        return Attempt(self.owner, key, fingerprint, attempt_id, terms, channel, LEASE_S, expires_at_s)


@pytest.fixture
def shop(unique: str) -> Shop:
    return Shop(unique, itertools.count(1))


def record(attempt: Attempt, finished: Finish | None) -> OrderRecord:
    return OrderRecord(attempt.fingerprint, attempt.attempt_id, attempt.terms, attempt.channel, finished)


async def begun_and(orders: OrderStore, attempt: Attempt, finish: Finish | None, now_s: int = NOW) -> None:
    assert (await orders.begin([attempt], now_s)).begun in (Begun.NEW, Begun.REPEAT)
    if finish is not None:
        await orders.finish(attempt.owner, [attempt.key], attempt.attempt_id, finish)


async def test_the_first_attempt_is_new_and_found(orders: OrderStore, shop: Shop) -> None:
    first = shop.attempt()
    assert await orders.find(shop.owner, first.key, NOW) is None
    assert await orders.begin([first], NOW) == BeginAnswer(Begun.NEW, None)
    assert await orders.find(shop.owner, first.key, NOW) == record(first, None)


async def test_a_second_one_waits_for_the_first(orders: OrderStore, shop: Shop) -> None:
    first = shop.attempt()
    await begun_and(orders, first, None)
    expected = BeginAnswer(Begun.IN_PROGRESS, record(first, None))
    assert await orders.begin([shop.attempt()], NOW) == expected
    assert await orders.begin([shop.attempt()], NOW + LEASE_S) == expected
    assert await orders.find(shop.owner, first.key, NOW) == record(first, None)


async def test_after_the_lease_it_is_a_repeat(orders: OrderStore, shop: Shop) -> None:
    first = shop.attempt()
    await begun_and(orders, first, None)
    answer = await orders.begin([shop.attempt()], NOW + LEASE_S + 1)
    assert answer == BeginAnswer(Begun.REPEAT, record(first, None))


async def test_after_done_it_is_a_repeat(orders: OrderStore, shop: Shop) -> None:
    first = shop.attempt()
    await begun_and(orders, first, Finish.DONE)
    assert await orders.begin([shop.attempt()], NOW) == BeginAnswer(Begun.REPEAT, record(first, Finish.DONE))


@pytest.mark.parametrize("finish", [None, Finish.DONE])
@pytest.mark.parametrize("later_s", [0, LEASE_S, LEASE_S + 1, A_DAY_S])
async def test_another_payload_is_a_conflict(
    orders: OrderStore, shop: Shop, finish: Finish | None, later_s: int
) -> None:
    first = shop.attempt()
    await begun_and(orders, first, finish)
    answer = await orders.begin([shop.attempt(fingerprint="bb")], NOW + later_s)
    assert answer == BeginAnswer(Begun.CONFLICT, record(first, finish))
    assert await orders.find(shop.owner, first.key, NOW + later_s) == record(first, finish)


@pytest.mark.parametrize("fingerprint", ["aa", "bb"])
async def test_after_a_refusal_any_payload_is_new_on_the_same_channel(
    orders: OrderStore, shop: Shop, fingerprint: str
) -> None:
    first = shop.attempt()
    await begun_and(orders, first, Finish.REFUSED)
    second = shop.attempt(fingerprint=fingerprint, terms=OTHER_TERMS, channel="alipay")
    assert await orders.begin([second], NOW) == BeginAnswer(Begun.NEW, record(first, Finish.REFUSED))
    expected = OrderRecord(fingerprint, second.attempt_id, OTHER_TERMS, "wechat", None)
    assert await orders.find(shop.owner, first.key, NOW) == expected


async def test_a_refused_attempt_without_channel_binds_nobody(orders: OrderStore, shop: Shop) -> None:
    await begun_and(orders, shop.attempt(channel=None), Finish.REFUSED)
    await begun_and(orders, shop.attempt(channel="alipay"), None)
    found = await orders.find(shop.owner, "pay:ORD1", NOW)
    assert found is not None
    assert found.channel == "alipay"


async def test_a_repeat_is_in_progress_with_the_first_ones_terms_and_channel(orders: OrderStore, shop: Shop) -> None:
    first, repeat = shop.attempt(), shop.attempt(terms=OTHER_TERMS, channel="alipay")
    await begun_and(orders, first, Finish.DONE)
    await begun_and(orders, repeat, None, NOW + 1)
    expected = OrderRecord("aa", repeat.attempt_id, TERMS, "wechat", None)
    assert await orders.find(shop.owner, first.key, NOW) == expected
    assert (await orders.begin([shop.attempt()], NOW + 1 + LEASE_S)).begun is Begun.IN_PROGRESS
    assert (await orders.begin([shop.attempt()], NOW + 2 + LEASE_S)).begun is Begun.REPEAT


@pytest.mark.parametrize("before", [Finish.DONE, Finish.REFUSED])
async def test_an_unsent_attempt_puts_back_what_stood_there(orders: OrderStore, shop: Shop, before: Finish) -> None:
    first, second = shop.attempt(), shop.attempt()
    await begun_and(orders, first, before)
    await begun_and(orders, second, Finish.UNSENT)
    assert await orders.find(shop.owner, first.key, NOW) == record(first, before)


async def test_an_unsent_repeat_after_a_lapsed_lease_puts_back_the_unknown_outcome(
    orders: OrderStore, shop: Shop
) -> None:
    first, second = shop.attempt(), shop.attempt()
    await begun_and(orders, first, None)
    await begun_and(orders, second, Finish.UNSENT, NOW + LEASE_S + 1)
    answer = await orders.begin([shop.attempt()], NOW + LEASE_S + 1)
    assert answer == BeginAnswer(Begun.REPEAT, record(first, None))


async def test_what_was_put_back_can_be_taken_back_itself(orders: OrderStore, shop: Shop) -> None:
    first, second = shop.attempt(), shop.attempt()
    await begun_and(orders, first, None)
    await begun_and(orders, second, Finish.UNSENT, NOW + LEASE_S + 1)
    await orders.finish(shop.owner, [first.key], first.attempt_id, Finish.UNSENT)
    assert await orders.find(shop.owner, first.key, NOW) is None


async def test_an_unsent_first_attempt_is_forgotten(orders: OrderStore, shop: Shop) -> None:
    await begun_and(orders, shop.attempt(), Finish.UNSENT)
    assert await orders.find(shop.owner, "pay:ORD1", NOW) is None
    assert await orders.begin([shop.attempt(fingerprint="bb")], NOW) == BeginAnswer(Begun.NEW, None)


async def test_a_repeat_of_a_repeat_goes_back_one_step(orders: OrderStore, shop: Shop) -> None:
    first, second, third = shop.attempt(), shop.attempt(), shop.attempt()
    await begun_and(orders, first, Finish.DONE)
    await begun_and(orders, second, Finish.DONE)
    await begun_and(orders, third, Finish.UNSENT)
    assert await orders.find(shop.owner, first.key, NOW) == record(second, Finish.DONE)
    await orders.finish(shop.owner, [first.key], second.attempt_id, Finish.UNSENT)
    assert await orders.find(shop.owner, first.key, NOW) == record(second, Finish.DONE)


@pytest.mark.parametrize("finish", list(Finish))
async def test_only_the_holder_finishes(orders: OrderStore, shop: Shop, finish: Finish) -> None:
    first, second = shop.attempt(), shop.attempt()
    await begun_and(orders, first, Finish.DONE)
    await begun_and(orders, second, None)
    await orders.finish(shop.owner, [first.key], first.attempt_id, finish)
    await orders.finish(shop.owner, [first.key], "somebody", finish)
    await orders.finish("another owner", [first.key], second.attempt_id, finish)
    await orders.finish(shop.owner, ["pay:ORD2"], second.attempt_id, finish)
    assert await orders.find(shop.owner, first.key, NOW) == record(second, None)


@pytest.mark.parametrize(
    ("first_end", "second_end", "stands"),
    [
        (Finish.DONE, Finish.UNSENT, Finish.DONE),
        (Finish.DONE, Finish.REFUSED, Finish.REFUSED),
        (Finish.REFUSED, Finish.DONE, Finish.REFUSED),
        (Finish.REFUSED, Finish.UNSENT, Finish.REFUSED),
    ],
)
async def test_the_first_end_counts_unless_the_unknown_is_learnt(
    orders: OrderStore, shop: Shop, first_end: Finish, second_end: Finish, stands: Finish
) -> None:
    first = shop.attempt()
    await begun_and(orders, first, first_end)
    await orders.finish(shop.owner, [first.key], first.attempt_id, second_end)
    assert await orders.find(shop.owner, first.key, NOW) == record(first, stands)


async def test_an_end_after_the_lease_still_counts(orders: OrderStore, shop: Shop) -> None:
    first = shop.attempt()
    await begun_and(orders, first, None)
    assert (await orders.begin([shop.attempt(fingerprint="bb")], NOW + LEASE_S + 1)).begun is Begun.CONFLICT
    await orders.finish(shop.owner, [first.key], first.attempt_id, Finish.REFUSED)
    assert (await orders.begin([shop.attempt(fingerprint="bb")], NOW + LEASE_S + 1)).begun is Begun.NEW


class TestSettled:
    async def settled(self, orders: OrderStore, shop: Shop, now_s: int = NOW) -> Settled | None:
        found = await orders.find(shop.owner, "pay:ORD1", now_s)
        return None if found is None else found.settled

    async def test_nothing_is_settled_at_first(self, orders: OrderStore, shop: Shop) -> None:
        await begun_and(orders, shop.attempt(), Finish.DONE)
        assert await self.settled(orders, shop) is None

    @pytest.mark.parametrize(
        ("said", "stands"),
        [
            ([Settled.PAID], Settled.PAID),
            ([Settled.CLOSED], Settled.CLOSED),
            ([Settled.CLOSED, Settled.PAID], Settled.PAID),
            ([Settled.PAID, Settled.CLOSED], Settled.PAID),
        ],
    )
    async def test_paid_replaces_closed_and_nothing_replaces_paid(
        self, orders: OrderStore, shop: Shop, said: list[Settled], stands: Settled
    ) -> None:
        await begun_and(orders, shop.attempt(), None)
        for one in said:
            await orders.settle(shop.owner, "pay:ORD1", one, NOW)
        assert await self.settled(orders, shop) is stands

    @pytest.mark.parametrize("finish", [Finish.DONE, Finish.REFUSED])
    async def test_whoever_begins_it_again_hears_it(self, orders: OrderStore, shop: Shop, finish: Finish) -> None:
        first = shop.attempt()
        await begun_and(orders, first, finish)
        await orders.settle(shop.owner, first.key, Settled.PAID, NOW)
        answer = await orders.begin([shop.attempt()], NOW)
        assert answer.record is not None
        assert (answer.settled, answer.record.settled) == (Settled.PAID, Settled.PAID)
        assert await self.settled(orders, shop) is Settled.PAID

    async def test_taking_an_attempt_back_takes_back_nothing_that_is_settled(
        self, orders: OrderStore, shop: Shop
    ) -> None:
        await begun_and(orders, shop.attempt(), Finish.DONE)
        second = shop.attempt()
        await begun_and(orders, second, None)
        await orders.settle(shop.owner, second.key, Settled.CLOSED, NOW)
        await orders.finish(shop.owner, [second.key], second.attempt_id, Finish.UNSENT)
        assert await self.settled(orders, shop) is Settled.CLOSED

    async def test_an_order_that_never_passed_here_is_not_remembered(self, orders: OrderStore, shop: Shop) -> None:
        await orders.settle(shop.owner, "pay:ORD1", Settled.PAID, NOW)
        assert await orders.find(shop.owner, "pay:ORD1", NOW) is None
        assert await orders.begin([shop.attempt()], NOW) == BeginAnswer(Begun.NEW, None)

    @pytest.mark.parametrize("turned", [False, True])
    @pytest.mark.parametrize(
        ("said", "heard"),
        [
            ([], None),
            (["closed"], Settled.CLOSED),
            (["paid"], Settled.PAID),
            (["closed", "paid"], Settled.PAID),
        ],
    )
    async def test_it_is_heard_under_any_of_several_keys(
        self, orders: OrderStore, shop: Shop, turned: bool, said: list[str], heard: Settled | None
    ) -> None:
        keys = ["idempotency:K", "closed", "paid"]
        for key in keys:
            # Of the refused ones no record is answered: the repeat's is.
            await begun_and(orders, shop.attempt(key), Finish.DONE if key == keys[0] else Finish.REFUSED)
        for key in said:
            await orders.settle(shop.owner, key, Settled(key), NOW)
        attempts = [shop.attempt(key) for key in (keys[::-1] if turned else keys)]
        answer = await orders.begin(attempts, NOW)
        assert answer.record is not None
        assert (answer.begun, answer.settled, answer.record.settled) == (Begun.REPEAT, heard, None)

    @pytest.mark.parametrize(("fingerprint", "begun"), [("aa", Begun.IN_PROGRESS), ("bb", Begun.CONFLICT)])
    async def test_it_is_heard_where_nothing_is_recorded(
        self, orders: OrderStore, shop: Shop, fingerprint: str, begun: Begun
    ) -> None:
        await begun_and(orders, shop.attempt(), None)
        await orders.settle(shop.owner, "pay:ORD1", Settled.CLOSED, NOW)
        answer = await orders.begin([shop.attempt(fingerprint=fingerprint)], NOW)
        assert (answer.begun, answer.settled) == (begun, Settled.CLOSED)

    async def test_another_owners_order_is_not_settled(self, orders: OrderStore, shop: Shop) -> None:
        await begun_and(orders, shop.attempt(), Finish.DONE)
        await orders.settle("another owner", "pay:ORD1", Settled.PAID, NOW)
        assert await self.settled(orders, shop) is None

    async def test_what_is_forgotten_is_forgotten_whole(self, orders: OrderStore, shop: Shop) -> None:
        await begun_and(orders, shop.attempt(expires_at_s=NOW + 60), Finish.DONE)
        later = NOW + LEASE_S + 61
        await orders.settle(shop.owner, "pay:ORD1", Settled.PAID, later)
        await orders.begin([shop.attempt(expires_at_s=later + 60)], later)
        assert await self.settled(orders, shop, later) is None


class TestSeveralKeys:
    """One request, an order and an idempotency key: all recorded or none."""

    async def test_all_are_recorded_and_finished(self, orders: OrderStore, shop: Shop) -> None:
        both = [shop.attempt(attempt_id="r"), shop.attempt("idempotency:K", attempt_id="r", terms=None)]
        assert await orders.begin(both, NOW) == BeginAnswer(Begun.NEW, None)
        await orders.finish(shop.owner, [one.key for one in both], "r", Finish.DONE)
        for one in both:
            assert await orders.find(shop.owner, one.key, NOW) == record(one, Finish.DONE)

    async def test_a_conflict_records_none(self, orders: OrderStore, shop: Shop) -> None:
        await begun_and(orders, shop.attempt("idempotency:K"), Finish.DONE)
        answer = await orders.begin([shop.attempt(fingerprint="bb"), shop.attempt("idempotency:K", "bb")], NOW)
        assert answer.begun is Begun.CONFLICT
        assert await orders.find(shop.owner, "pay:ORD1", NOW) is None

    async def test_in_progress_records_none(self, orders: OrderStore, shop: Shop) -> None:
        running = shop.attempt("idempotency:K")
        await begun_and(orders, running, None)
        answer = await orders.begin([shop.attempt(), shop.attempt("idempotency:K")], NOW)
        assert answer == BeginAnswer(Begun.IN_PROGRESS, record(running, None))
        assert await orders.find(shop.owner, "pay:ORD1", NOW) is None

    @pytest.mark.parametrize("turned", [False, True])
    async def test_conflict_wins_over_in_progress_over_repeat(
        self, orders: OrderStore, shop: Shop, turned: bool
    ) -> None:
        done, running, other = shop.attempt("done"), shop.attempt("running"), shop.attempt("other", "bb")
        await begun_and(orders, done, Finish.DONE)
        await begun_and(orders, running, None)
        await begun_and(orders, other, Finish.DONE)

        async def begin(*keys: str) -> BeginAnswer:
            attempts = [shop.attempt(key) for key in keys]
            return await orders.begin(attempts[::-1] if turned else attempts, NOW)

        conflict = BeginAnswer(Begun.CONFLICT, record(other, Finish.DONE))
        assert await begin("done", "running", "other") == conflict
        assert await begin("running", "other") == conflict
        assert await begin("done", "running", "new") == BeginAnswer(Begun.IN_PROGRESS, record(running, None))
        assert await begin("done", "new") == BeginAnswer(Begun.REPEAT, record(done, Finish.DONE))

    async def test_a_key_that_is_new_beside_a_repeat_gets_the_repeats_channel(
        self, orders: OrderStore, shop: Shop
    ) -> None:
        await begun_and(orders, shop.attempt(), Finish.DONE)
        again = [shop.attempt(channel="alipay"), shop.attempt("idempotency:K2", channel="alipay")]
        assert (await orders.begin(again, NOW)).begun is Begun.REPEAT
        found = await orders.find(shop.owner, "idempotency:K2", NOW)
        assert found == OrderRecord("aa", again[1].attempt_id, TERMS, "wechat", None)
        assert (await orders.begin([shop.attempt("idempotency:K2", "bb")], NOW)).begun is Begun.CONFLICT

    async def test_an_unsent_request_takes_back_each_key_for_itself(self, orders: OrderStore, shop: Shop) -> None:
        first = shop.attempt()
        await begun_and(orders, first, Finish.DONE)
        again = [shop.attempt(attempt_id="r"), shop.attempt("idempotency:K2", attempt_id="r")]
        await orders.begin(again, NOW)
        await orders.finish(shop.owner, [one.key for one in again], "r", Finish.UNSENT)
        assert await orders.find(shop.owner, first.key, NOW) == record(first, Finish.DONE)
        assert await orders.find(shop.owner, "idempotency:K2", NOW) is None

    async def test_what_no_caller_may_ask_is_an_error(self, orders: OrderStore, shop: Shop) -> None:
        one, other = shop.attempt(), Shop("somebody else", shop.numbers).attempt("pay:ORD2")
        for attempts in ([], [one, one], [one, other], [shop.attempt(str(number)) for number in range(4)]):
            with pytest.raises(ValueError, match=r"attempts|twice"):
                await orders.begin(attempts, NOW)
        await orders.finish(shop.owner, [], "r", Finish.DONE)


class TestExpiry:
    async def test_it_is_remembered_to_the_last_second(self, orders: OrderStore, shop: Shop) -> None:
        first = shop.attempt(expires_at_s=NOW + 100)
        await begun_and(orders, first, Finish.DONE)
        assert (await orders.begin([shop.attempt(fingerprint="bb")], NOW + 100)).begun is Begun.CONFLICT
        assert await orders.find(shop.owner, first.key, NOW + 100) == record(first, Finish.DONE)

    async def test_it_is_forgotten_afterwards(self, orders: OrderStore, shop: Shop) -> None:
        await begun_and(orders, shop.attempt(expires_at_s=NOW + 100), Finish.DONE)
        assert await orders.find(shop.owner, "pay:ORD1", NOW + 101) is None
        other = shop.attempt(fingerprint="bb", channel="alipay")
        assert await orders.begin([other], NOW + 101) == BeginAnswer(Begun.NEW, None)
        await orders.finish(shop.owner, [other.key], other.attempt_id, Finish.UNSENT)
        assert await orders.find(shop.owner, "pay:ORD1", NOW + 101) is None

    async def test_a_running_attempt_is_not_forgotten(self, orders: OrderStore, shop: Shop) -> None:
        await begun_and(orders, shop.attempt(expires_at_s=NOW), None)
        assert (await orders.begin([shop.attempt()], NOW + LEASE_S)).begun is Begun.IN_PROGRESS

    async def test_a_repeat_never_shortens_the_memory(self, orders: OrderStore, shop: Shop) -> None:
        await begun_and(orders, shop.attempt(expires_at_s=NOW + 1000), Finish.DONE)
        await begun_and(orders, shop.attempt(expires_at_s=NOW + 100), Finish.DONE)
        assert (await orders.begin([shop.attempt(fingerprint="bb")], NOW + 1000)).begun is Begun.CONFLICT


class TestRaces:
    async def test_of_hundreds_at_once_one_is_new(self, orders: OrderStore, shop: Shop) -> None:
        answers = await asyncio.gather(*(orders.begin([shop.attempt()], NOW) for _ in range(300)))
        verdicts = [answer.begun for answer in answers]
        assert verdicts.count(Begun.NEW) == 1
        assert verdicts.count(Begun.IN_PROGRESS) == 299

    async def test_of_hundreds_of_payloads_one_is_new(self, orders: OrderStore, shop: Shop) -> None:
        attempts = [shop.attempt(fingerprint=f"{number:04x}") for number in range(300)]
        answers = await asyncio.gather(*(orders.begin([attempt], NOW) for attempt in attempts))
        assert sorted(answer.begun for answer in answers) == [Begun.CONFLICT] * 299 + [Begun.NEW]

    async def test_keys_in_any_order_are_never_half_recorded(self, orders: OrderStore, shop: Shop) -> None:
        def pair(number: int) -> list[Attempt]:
            two = [shop.attempt(attempt_id=str(number)), shop.attempt("idempotency:K", attempt_id=str(number))]
            return two[::-1] if number % 2 else two

        answers = await asyncio.gather(*(orders.begin(pair(number), NOW) for number in range(200)))
        assert [answer.begun for answer in answers].count(Begun.NEW) == 1
        winner = str([answer.begun for answer in answers].index(Begun.NEW))
        for key in ("pay:ORD1", "idempotency:K"):
            found = await orders.find(shop.owner, key, NOW)
            assert found is not None
            assert found.attempt_id == winner

    async def test_of_hundreds_of_repeats_one_passes(self, orders: OrderStore, shop: Shop) -> None:
        await begun_and(orders, shop.attempt(), Finish.DONE)
        answers = await asyncio.gather(*(orders.begin([shop.attempt()], NOW) for _ in range(300)))
        assert [answer.begun for answer in answers].count(Begun.REPEAT) == 1


@pytest.mark.parametrize("text", ["", "支付", "\x00", "}{a}", "\udcff", chr(0xD800), "-", "+", '"\\', "x" * 10_000])
async def test_any_text_is_kept_as_it_is(orders: OrderStore, shop: Shop, text: str) -> None:
    owner = Shop(shop.owner + text, shop.numbers)
    terms = OrderTerms(10**18, text, text, None)
    first = owner.attempt(key=text, fingerprint=text, attempt_id="r" + text, terms=terms, channel=text)
    await begun_and(orders, first, Finish.DONE)
    assert await orders.find(owner.owner, text, NOW) == record(first, Finish.DONE)
    assert await orders.find(shop.owner, text + text + "x", NOW) is None


async def test_owners_and_keys_are_not_confused(orders: OrderStore, shop: Shop) -> None:
    split: Callable[[str, str], Attempt] = lambda owner, key: Shop(shop.owner + owner, shop.numbers).attempt(key)  # noqa: E731
    await begun_and(orders, split("a", "bc"), None)
    assert (await orders.begin([split("ab", "c")], NOW)).begun is Begun.NEW
