"""Owns overrides of limits in shared state: one hash, a field each."""

from __future__ import annotations

import hashlib
import json

from paymesh.payments.limits.override_store import decode_all, encode
from paymesh.payments.limits.overrides import LimitOverride
from paymesh.payments.shared_state.client import Script, SharedState
from paymesh.payments.shared_state.keys import OVERRIDES_KEY

_FORGET = Script("if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end")


class RedisOverrides:
    """Implements `OverrideStore`."""

    def __init__(self, state: SharedState) -> None:
        self._state = state

    async def read(self) -> list[LimitOverride]:
        return decode_all(await self._state.call("HVALS", OVERRIDES_KEY))

    async def put(self, override: LimitOverride) -> None:
        await self._state.call("HSET", OVERRIDES_KEY, _field(override.key), encode(override))

    async def remove(self, key: tuple[str, ...]) -> bool:
        return bool(await self._state.call("HDEL", OVERRIDES_KEY, _field(key)))

    async def forget(self, override: LimitOverride) -> None:
        await self._state.run(_FORGET, [OVERRIDES_KEY], [_field(override.key), encode(override)])


def _field(key: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()
