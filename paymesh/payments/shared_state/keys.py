"""Owns how keys of shared state are named. Refuses to put a caller's text into one: only digests, of bounded length.

An owner's digest is the hash tag (Redis Cluster specification): all keys of one owner live in one slot, so that one
script may touch several.
"""

from __future__ import annotations

import hashlib

PREFIX = "paymesh:"
"""What an access control list has to permit: `~paymesh:*`."""

OVERRIDES_KEY = f"{PREFIX}limit_overrides"


def order_key(owner: str, key: str) -> str:
    return f"{PREFIX}order:{{{_digest(owner)}}}:{_digest(key)}"


def order_version_key(owner: str, key: str) -> str:
    return f"{PREFIX}order_version:{{{_digest(owner)}}}:{_digest(key)}"


def nonce_key(nonce: str) -> str:
    return f"{PREFIX}nonce:{_digest(nonce)}"


def bucket_key(key: tuple[str, ...], per_s: int) -> str:
    """`key`: the limit's name and the values that share the bucket, each told apart from the next."""
    return f"{PREFIX}bucket:{{{limit_slot(key)}}}:{_digest(key[0])}:{per_s}"


def slots_key(key: tuple[str, ...]) -> str:
    return f"{PREFIX}slots:{{{limit_slot(key)}}}:{_digest(key[0])}"


def quota_key(key: tuple[str, ...]) -> str:
    return f"{PREFIX}quota:{{{limit_slot(key)}}}:{_digest(key[0])}"


def request_key(request_id: str) -> str:
    """What a request holds until its end."""
    return f"{PREFIX}request:{_digest(request_id)}"


def latency_key(key: tuple[str, str]) -> str:
    """`key`: a latency limit's name, and the service or channel."""
    return f"{PREFIX}latency:{_digest(key[0])}:{_digest(key[1])}"


def channel_health_key(channel: str, watch: str) -> str:
    """`watch`: how its outcomes are counted, as a text."""
    return f"{PREFIX}channel_health:{_digest(channel)}:{_digest(watch)}"


def event_key(name: str) -> str:
    """All of the event log in one hash slot: one script writes them."""
    return f"{PREFIX}{{events}}:{name}"


def order_events_key(merchant: str, operation: str, order_no: str) -> str:
    return event_key(f"order:{_digest(merchant)}:{operation}:{_digest(order_no)}")


def limit_slot(key: tuple[str, ...]) -> str:
    """Limits whose values are the same count in one slot, whatever they are called."""
    return _digest("\0".join(f"{len(value)}:{value}" for value in key[1:]))


def hash_tag(key: str) -> str:
    """The part of a key that decides its hash slot."""
    return key.partition("{")[2].partition("}")[0]


def _digest(text: str) -> str:
    # 128 bits: two of a billion keys meet with a probability of 1e-21. Surrogates come from headers that are no UTF-8.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
