"""Owns how keys of shared state are named. Refuses to put a caller's text into one: only digests, of bounded length.

An owner's digest is the hash tag (Redis Cluster specification): all keys of one owner live in one slot, so that one
script may touch several.
"""

from __future__ import annotations

import hashlib

PREFIX = "paymesh:"
"""What an access control list has to permit: `~paymesh:*`."""


def order_key(owner: str, key: str) -> str:
    return f"{PREFIX}order:{{{_digest(owner)}}}:{_digest(key)}"


def nonce_key(nonce: str) -> str:
    return f"{PREFIX}nonce:{_digest(nonce)}"


def _digest(text: str) -> str:
    # 128 bits: two of a billion keys meet with a probability of 1e-21. Surrogates come from headers that are no UTF-8.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
