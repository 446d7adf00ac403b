"""Owns remembering what providers answered, by a digest of the token. Refuses to keep a token itself.

Two stores: made-up tokens, which anybody can send by the million, must not push out genuine ones.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from paymesh.payments.denial import Denial
from paymesh.payments.users.providers import RemoteProvider
from paymesh.payments.users.user import User

CAPACITY = 10_000
REFUSED_S = 5
"""How long a refusal is remembered."""

Key = tuple[str, str, bytes]
"""Provider, its version, SHA-256 of the token."""


class AnswerCache:
    """The newest answers, users and refusals apart, `capacity` of each."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._users: OrderedDict[Key, User] = OrderedDict()
        self._refusals: OrderedDict[Key, tuple[Denial, int]] = OrderedDict()

    def get(self, key: Key, now_s: int) -> User | Denial | None:
        """What was answered, if it may still be believed."""
        user = self._users.get(key)
        if user is not None:
            if now_s < user.expires_at_s:
                self._users.move_to_end(key)
                return user
            del self._users[key]
        denial, until_s = self._refusals.get(key, (None, 0))
        if denial is not None and now_s >= until_s:
            del self._refusals[key]
            return None
        return denial

    def put(self, key: Key, answer: User | Denial, now_s: int) -> None:
        if isinstance(answer, User):
            self._users[key] = answer
            if len(self._users) > self._capacity:
                self._users.popitem(last=False)
        else:
            self._refusals[key] = (answer, now_s + REFUSED_S)
            self._refusals.move_to_end(key)
            if len(self._refusals) > self._capacity:
                self._refusals.popitem(last=False)


def cache_key(provider: RemoteProvider, token: str) -> Key:
    return provider.name, provider.version, hashlib.sha256(token.encode()).digest()
