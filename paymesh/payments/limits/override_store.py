"""Owns where overrides are kept, so that every worker and every restart has them; and reading them again and again.

Refuses what cannot be read: an override that cannot be understood is said in the log, and the others stay in force.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from paymesh.payments.denial import Unavailable
from paymesh.payments.limits.overrides import LimitOverride, OverridesInForce
from paymesh.payments.policy.callers import LimitSize, TokenRate

FOLLOW_S = 0.5
_LOG = logging.getLogger(__name__)


class OverrideStore(Protocol):
    async def read(self) -> list[LimitOverride]:
        """All, expired ones too. Raises Unavailable."""
        ...

    async def put(self, override: LimitOverride) -> None:
        """Durable when it returns, where the store is. Replaces the one of the same key. Raises Unavailable."""
        ...

    async def remove(self, key: tuple[str, ...]) -> bool:
        """Whether it was there. Raises Unavailable."""
        ...

    async def forget(self, override: LimitOverride) -> None:
        """Remove exactly this one: not another that somebody has put in its place by now. Raises Unavailable."""
        ...


class OverrideFile:
    """Implements `OverrideStore` for one worker: a JSON file, replaced as a whole. None: only in memory."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._overrides: dict[tuple[str, ...], LimitOverride] = {}
        if path is not None and path.exists():
            try:
                texts = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise Unavailable(f"{path}: {type(error).__name__}") from error
            if not isinstance(texts, list):
                raise Unavailable(f"{path}: not a list of overrides")
            self._overrides = {one.key: one for one in decode_all(texts)}

    async def read(self) -> list[LimitOverride]:
        return list(self._overrides.values())

    async def put(self, override: LimitOverride) -> None:
        await self._write({**self._overrides, override.key: override})

    async def remove(self, key: tuple[str, ...]) -> bool:
        if key not in self._overrides:
            return False
        await self._write({one: override for one, override in self._overrides.items() if one != key})
        return True

    async def forget(self, override: LimitOverride) -> None:
        if self._overrides.get(override.key) == override:
            await self.remove(override.key)

    async def _write(self, overrides: dict[tuple[str, ...], LimitOverride]) -> None:
        if self._path is not None:
            await asyncio.to_thread(_replace, self._path, [encode(one) for one in overrides.values()])
        self._overrides = overrides


def _replace(path: Path, texts: list[str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".new")
        with beside.open("w", encoding="utf-8") as file:
            json.dump(texts, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or type(error).__name__}") from error


async def follow(
    store: OverrideStore, in_force: OverridesInForce, now_s: Callable[[], int], pause_s: float = FOLLOW_S
) -> None:
    """Keep `in_force` what the store says, until cancelled. Without the store what was read last stays."""
    away = False
    while True:
        try:
            await refresh(store, in_force, now_s())
            away = False
        except Unavailable as error:
            if not away:
                _LOG.warning("overrides not read: the last ones stay", extra={"fields": {"error": str(error)}})
            away = True
        await asyncio.sleep(pause_s)


async def refresh(store: OverrideStore, in_force: OverridesInForce, now_s: int) -> None:
    """Raises Unavailable. What has expired is removed from the store."""
    overrides = await store.read()
    in_force.replace(one for one in overrides if now_s < one.until_s)
    for one in overrides:
        if now_s >= one.until_s:
            await store.forget(one)


# -- as JSON ---------------------------------------------------------------------------------------------------------


def encode(override: LimitOverride) -> str:
    size: Any = override.size
    if not isinstance(size, int):
        size = [[rate.tokens, rate.per_s, rate.burst] for rate in size]
    fields = {
        "key": list(override.key),
        "size": size,
        "until_s": override.until_s,
        "reason": override.reason,
        "who": override.who,
        "set_at_s": override.set_at_s,
    }
    return json.dumps(fields)


def decode_all(texts: Iterable[str | bytes]) -> list[LimitOverride]:
    found = []
    for text in texts:
        try:
            found.append(_decode(json.loads(text)))
        except (ValueError, KeyError, TypeError) as error:
            _LOG.error("an override cannot be read", extra={"fields": {"error": type(error).__name__}})
    return found


def _decode(fields: dict[str, Any]) -> LimitOverride:
    size: LimitSize
    if isinstance(fields["size"], int):
        size = fields["size"]
    else:
        size = tuple(TokenRate(int(tokens), int(per_s), int(burst)) for tokens, per_s, burst in fields["size"])
    return LimitOverride(
        key=tuple(str(part) for part in fields["key"]),
        size=size,
        until_s=int(fields["until_s"]),
        reason=str(fields["reason"]),
        who=str(fields["who"]),
        set_at_s=int(fields["set_at_s"]),
    )
