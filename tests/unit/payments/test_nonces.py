"""Nonces: remembered for the whole window, forgotten after it, never dropped early."""

from __future__ import annotations

import pytest

from paymesh.payments.denial import Unavailable
from paymesh.payments.nonces import InProcessNonces


async def test_a_nonce_passes_once_until_it_expires() -> None:
    store = InProcessNonces()
    assert await store.add("n", 400, 100)
    assert not await store.add("n", 400, 100)
    assert not await store.add("n", 400, 400)
    assert await store.add("n", 800, 401)


async def test_a_full_store_is_unavailable_and_forgets_nothing() -> None:
    store = InProcessNonces(capacity=2)
    assert await store.add("a", 10, 0)
    assert await store.add("b", 10, 0)
    with pytest.raises(Unavailable):
        await store.add("c", 10, 0)
    assert not await store.add("a", 10, 0)
    assert await store.add("c", 30, 11)


async def test_any_text_is_a_nonce() -> None:
    store = InProcessNonces()
    assert await store.add("\udcff\ud800"[:1], 10, 0)
