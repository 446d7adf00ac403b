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


def bucket_key(key: tuple[str, ...]) -> str:
    """`key`: the limit's name and the values that share the bucket, each told apart from the next."""
    return f"{PREFIX}bucket:{{{bucket_slot(key)}}}:{_digest(key[0])}"


def bucket_slot(key: tuple[str, ...]) -> str:
    """Buckets whose values are the same live in one slot, whatever their limits are called."""
    return _digest("\0".join(f"{len(value)}:{value}" for value in key[1:]))


def _digest(text: str) -> str:
    # 128 bits: two of a billion keys meet with a probability of 1e-21. Surrogates come from headers that are no UTF-8.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
