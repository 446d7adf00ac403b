"""Owns routes as bytes, each built once: what did not change since is not built again.

Building a route costs about a millisecond, and a change of weights touches few of thousands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from paymesh.payments.policy.compiled import Route
from paymesh.payments.releases.traffic import Traffic

Splits = Mapping[str, Traffic]
"""By service."""
Build = Callable[[Route, Splits], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class _Built:
    route: Route
    splits: Splits
    """Those that building it looked at."""
    parts: tuple[bytes, ...]


class RouteCache:
    """The routes of one policy at a time, by name. Not for two threads at once."""

    def __init__(self) -> None:
        self._built: dict[str, _Built] = {}

    def build(self, routes: Iterable[Route], splits: Splits, build: Build) -> list[bytes]:
        """What `build` makes of all of them, in their order. It reads splits only from what it is given."""
        kept: dict[str, _Built] = {}
        parts: list[bytes] = []
        for route in routes:
            built = self._built.get(route.name)
            if built is None or not _still(built, route, splits):
                looked_at = _Recording(splits)
                built = _Built(route, looked_at.seen, tuple(build(route, looked_at)))
            kept[route.name] = built
            parts.extend(built.parts)
        self._built = kept
        return parts


def _still(built: _Built, route: Route, splits: Splits) -> bool:
    same = built.route is route or built.route == route
    return same and all(splits.get(name) == split for name, split in built.splits.items())


class _Recording(Mapping[str, Traffic]):
    """Splits that remember which of them were asked for."""

    def __init__(self, splits: Splits) -> None:
        self._splits = splits
        self.seen: dict[str, Traffic] = {}

    def __getitem__(self, name: str) -> Traffic:
        found = self.seen[name] = self._splits[name]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)
