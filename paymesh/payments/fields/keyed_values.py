"""Owns values that only a key holder understands: keyed hashes and encrypted fields. Refuses to make one twice of one.

    hk:<key id>:<64 hex digits>:<16 hex digits>      HMAC-SHA256 of the UTF-8 value, and a check made with the same key
    enc:<key id>:<base64url without padding>         AES-256-GCM: 12 bytes nonce, ciphertext, 16 bytes tag

Both prove that a key holder made them, so sanitising twice is sanitising once, and nobody else can send a value that
looks hashed or encrypted and is taken for it. The nonce is random: at most 2^32 values a key (NIST SP 800-38D 8.3).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from paymesh.payments.policy.field_rules import FieldKey, KeyRing

NONCE_BYTES = 12
_CHECK_DIGITS = 16
_HASHED = re.compile(r"hk:([A-Za-z0-9][A-Za-z0-9_.-]{0,63}):([0-9a-f]{64}):([0-9a-f]{16})")
ENCRYPTED = re.compile(r"enc:([A-Za-z0-9][A-Za-z0-9_.-]{0,63}):([A-Za-z0-9_-]{38,})")
"""Finds encrypted values inside any text."""


class NotDecryptable(Exception):  # noqa: N818 - it names the value
    """The key is not in the ring, or the value was not made with it. The message names the key id only."""


def keyed_hash(ring: KeyRing, value: str, now_s: int) -> str:
    """The hash under the ring's present key; what a key of the ring hashed already stays. LookupError: no valid key."""
    match = _HASHED.fullmatch(value)
    if match is not None:
        key = ring.by_id.get(match[1])
        if key is not None and hmac.compare_digest(_check(key, match[2]), match[3]):
            return value
    return _hash(ring.making(now_s), value)


def every_hash(ring: KeyRing, value: str) -> tuple[str, ...]:
    """The value's hash under each key of the ring: how a value is looked for after a rotation."""
    return tuple(_hash(key, value) for key in ring.keys)


def encrypt(ring: KeyRing, value: str, now_s: int, random_bytes: Callable[[int], bytes]) -> str:
    """The value encrypted under the ring's present key; what a key of the ring encrypted stays. LookupError."""
    match = ENCRYPTED.fullmatch(value)
    if match is not None and match[1] in ring.by_id:
        try:
            decrypt(ring.by_id, value)
        except NotDecryptable:
            pass  # it only looks like one
        else:
            return value
    key, nonce = ring.making(now_s), random_bytes(NONCE_BYTES)
    sealed = nonce + AESGCM(key.secret.reveal()).encrypt(nonce, value.encode("utf-8", "surrogatepass"), _bound_to(key))
    return f"enc:{key.id}:{base64.urlsafe_b64encode(sealed).rstrip(b'=').decode()}"


def decrypt(keys: Mapping[str, FieldKey], value: str) -> str:
    """What was encrypted. Raises NotDecryptable."""
    match = ENCRYPTED.fullmatch(value)
    if match is None:
        raise NotDecryptable("not an encrypted value")
    key = keys.get(match[1])
    if key is None:
        raise NotDecryptable(f"no key {match[1]} here")
    try:
        sealed = base64.urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4))
        plain = AESGCM(key.secret.reveal()).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _bound_to(key))
    except (binascii.Error, ValueError, InvalidTag):
        raise NotDecryptable(f"not made with key {match[1]}, or changed since") from None
    return plain.decode("utf-8", "surrogatepass")


def _hash(key: FieldKey, value: str) -> str:
    digest = hmac.digest(key.secret.reveal(), value.encode("utf-8", "surrogatepass"), "sha256").hex()
    return f"hk:{key.id}:{digest}:{_check(key, digest)}"


def _check(key: FieldKey, digest: str) -> str:
    # The prefix keeps it apart from the hash of any value: no value that is hashed here begins with this byte.
    return hmac.digest(key.secret.reveal(), b"\xff" + digest.encode(), "sha256").hex()[:_CHECK_DIGITS]


def _bound_to(key: FieldKey) -> bytes:
    return f"paymesh field {key.id}".encode()
