"""Keyed hashes and encrypted fields: rotation, forgery, and one value hidden once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.fields.keyed_values import NotDecryptable, decrypt, encrypt, every_hash, keyed_hash
from tests.unit.payments.fields.rings import NOW_S, PII, ring

OLD = ring(("k1", None))
ROTATED = ring(("k2", NOW_S), ("k1", None))
TEXTS = st.text(max_size=40)


def test_a_hash_is_hmac_sha256_of_the_utf8_value() -> None:
    digest = hmac.new(b"k1".ljust(32, b"."), "张三".encode(), hashlib.sha256).hexdigest()
    assert keyed_hash(PII, "张三", NOW_S).split(":")[:3] == ["hk", "k1", digest]


def test_a_key_makes_values_from_its_first_second_on() -> None:
    assert keyed_hash(ROTATED, "v", NOW_S - 1).startswith("hk:k1:")
    assert keyed_hash(ROTATED, "v", NOW_S).startswith("hk:k2:")
    assert encrypt(ROTATED, "v", NOW_S, os.urandom).startswith("enc:k2:")


def test_a_value_hashed_before_the_rotation_is_found_after_it() -> None:
    assert keyed_hash(OLD, "13812341234", NOW_S - 1) in every_hash(ROTATED, "13812341234")


def test_a_value_encrypted_before_the_rotation_is_read_after_it() -> None:
    assert decrypt(ROTATED.by_id, encrypt(OLD, "13812341234", NOW_S - 1, os.urandom)) == "13812341234"


@given(TEXTS)
def test_twice_is_once(value: str) -> None:
    hashed, encrypted = keyed_hash(PII, value, NOW_S), encrypt(PII, value, NOW_S, os.urandom)
    assert keyed_hash(ROTATED, hashed, NOW_S) == hashed
    assert encrypt(ROTATED, encrypted, NOW_S, os.urandom) == encrypted
    assert decrypt(PII.by_id, encrypted) == value


def test_what_only_looks_hashed_or_encrypted_is_a_value_like_any_other() -> None:
    for forged in ("hk:k1:" + "0" * 64 + ":" + "0" * 16, "enc:k1:" + "A" * 60):
        assert keyed_hash(PII, forged, NOW_S) != forged
        assert decrypt(PII.by_id, encrypt(PII, forged, NOW_S, os.urandom)) == forged


def test_a_hash_of_another_ring_is_hashed_again() -> None:
    foreign = keyed_hash(ring(("k9", None)), "v", NOW_S)
    assert keyed_hash(PII, foreign, NOW_S) != foreign


def test_the_format_is_aes_256_gcm_that_others_can_read() -> None:
    _, key_id, sealed = encrypt(PII, "张三", NOW_S, os.urandom).split(":")
    raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    plain = AESGCM(b"k1".ljust(32, b".")).decrypt(raw[:12], raw[12:], b"paymesh field k1")
    assert (key_id, plain.decode()) == ("k1", "张三")


def test_the_same_value_never_encrypts_to_the_same_text() -> None:
    assert len({encrypt(PII, "v", NOW_S, os.urandom) for _ in range(100)}) == 100


@pytest.mark.parametrize("position", [0, 12, 20, -1])
def test_a_changed_byte_is_noticed(position: int) -> None:
    _, _, sealed = encrypt(PII, "a value", NOW_S, lambda count: bytes(count)).split(":")
    raw = bytearray(base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)))
    raw[position] ^= 1
    with pytest.raises(NotDecryptable, match="key k1"):
        decrypt(PII.by_id, f"enc:k1:{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}")


@pytest.mark.parametrize("value", ["", "enc:k1:", "enc:k1:????", "enc:k7:" + "A" * 60, "13812341234"])
def test_an_error_names_no_value(value: str) -> None:
    with pytest.raises(NotDecryptable) as caught:
        decrypt(PII.by_id, value)
    assert "1381" not in str(caught.value)
    assert "AAAA" not in str(caught.value)


def test_before_every_valid_from_there_is_no_key() -> None:
    with pytest.raises(LookupError, match="pii"):
        keyed_hash(ring(("k1", NOW_S)), "v", NOW_S - 1)
