"""What only the orders in this process's memory have: a capacity, and a bound on what repeats leave behind."""

from __future__ import annotations

import tracemalloc

import pytest

from paymesh.payments.denial import Unavailable
from paymesh.payments.orders import Attempt, Begun, Finish, InProcessOrders


def attempt(key: str, fingerprint: str = "aa", attempt_id: str = "r", expires_at_s: int = 1000) -> Attempt:
    return Attempt("m", key, fingerprint, attempt_id, None, None, 10, expires_at_s)


async def test_full_it_is_unavailable_and_forgets_nothing() -> None:
    orders = InProcessOrders(capacity=2)
    await orders.begin([attempt("a"), attempt("b")], 0)
    with pytest.raises(Unavailable):
        await orders.begin([attempt("c")], 0)
    assert (await orders.begin([attempt("a", "bb")], 0)).begun is Begun.CONFLICT
    assert (await orders.begin([attempt("b")], 0)).begun is Begun.IN_PROGRESS
    assert (await orders.begin([attempt("a")], 11)).begun is Begun.REPEAT


async def test_all_find_room_or_none() -> None:
    orders = InProcessOrders(capacity=2)
    await orders.begin([attempt("a")], 0)
    with pytest.raises(Unavailable):
        await orders.begin([attempt("b"), attempt("c")], 0)
    assert await orders.find("m", "b", 0) is None
    assert (await orders.begin([attempt("b")], 0)).begun is Begun.NEW


async def test_what_expires_makes_room() -> None:
    orders = InProcessOrders(capacity=1)
    await orders.begin([attempt("a", expires_at_s=20)], 0)
    with pytest.raises(Unavailable):
        await orders.begin([attempt("b")], 20)
    assert (await orders.begin([attempt("b")], 21)).begun is Begun.NEW


@pytest.mark.parametrize("finish", list(Finish))
async def test_a_caller_who_repeats_does_not_fill_the_memory(finish: Finish) -> None:
    orders = InProcessOrders()

    async def repeats(count: int) -> None:
        for number in range(count):
            one = attempt("a", attempt_id=str(number), expires_at_s=1_000_000 + number)
            assert (await orders.begin([one], 0)).begun in (Begun.NEW, Begun.REPEAT)
            await orders.finish("m", ["a"], one.attempt_id, finish)

    await repeats(3000)
    tracemalloc.start()
    await repeats(20_000)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 500_000  # bytes; a record or a heap entry each would be some millions
