"""Owns orders' versions in shared state: a string a key, the cluster's name. Refuses to replace one."""

from __future__ import annotations

from typing import cast

from paymesh.payments.internal_names import version_cluster
from paymesh.payments.order_versions import OrderVersion
from paymesh.payments.shared_state.client import Script, SharedState
from paymesh.payments.shared_state.keys import order_version_key
from paymesh.payments.shared_state.redis_nonces import KEPT_LONGER_S

# ARGV: the version, its lifetime in milliseconds.
_RECORD = Script(
    """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""
)


class RedisOrderVersions:
    """Implements `OrderVersions`. The store counts the lifetime from its own now: its clock need not be right."""

    def __init__(self, state: SharedState) -> None:
        self._state = state

    async def record(self, owner: str, key: str, version: OrderVersion, expires_at_s: int, now_s: int) -> None:
        lifetime_ms = (max(0, expires_at_s - now_s) + KEPT_LONGER_S) * 1000
        value = version_cluster(version.service, version.version)
        await self._state.run(_RECORD, [order_version_key(owner, key)], [value, lifetime_ms])

    async def find(self, owner: str, key: str, now_s: int) -> OrderVersion | None:  # noqa: ARG002 - the contract's
        held = cast(bytes | None, await self._state.call("GET", order_version_key(owner, key)))
        if held is None:
            return None
        service, _, version = held.decode().partition("|")
        return OrderVersion(service, version)
