"""What every NonceStore promises."""

from __future__ import annotations

import asyncio
import time

import pytest

from paymesh.payments.nonces import NonceStore

NOW = int(time.time())


async def test_a_nonce_passes_once_in_its_window(nonces: NonceStore, unique: str) -> None:
    assert await nonces.add(unique, NOW + 300, NOW)
    assert not await nonces.add(unique, NOW + 300, NOW)
    assert not await nonces.add(unique, NOW + 600, NOW + 1)
    assert not await nonces.add(unique, NOW + 600, NOW + 300)


async def test_others_pass(nonces: NonceStore, unique: str) -> None:
    assert await nonces.add(unique, NOW + 300, NOW)
    assert await nonces.add(unique + "x", NOW + 300, NOW)


async def test_of_hundreds_at_once_one_passes(nonces: NonceStore, unique: str) -> None:
    passed = await asyncio.gather(*(nonces.add(unique, NOW + 300, NOW) for _ in range(300)))
    assert passed.count(True) == 1


@pytest.mark.parametrize("text", ["", "支付", "\x00\r\n", "{}", "\udcff", chr(0xD800), "x" * 100_000])
async def test_any_text_is_a_nonce(nonces: NonceStore, unique: str, text: str) -> None:
    assert await nonces.add(unique + text, NOW + 300, NOW)
    assert not await nonces.add(unique + text, NOW + 300, NOW)


async def test_surrogates_are_told_apart(nonces: NonceStore, unique: str) -> None:
    # "\udce9" stands for the byte e9 of a header that is no UTF-8; "é" is another nonce.
    assert await nonces.add(unique + "\udcc3\udca9", NOW + 300, NOW)
    assert await nonces.add(unique + "é", NOW + 300, NOW)


async def test_one_that_expires_at_once_is_still_one(nonces: NonceStore, unique: str) -> None:
    assert await nonces.add(unique, NOW, NOW)
    assert not await nonces.add(unique, NOW, NOW)
