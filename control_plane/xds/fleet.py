"""Owns which generation each connected node gets: one node first, then the rest; refusals hold or roll back.

Refuses to let one bad change reach everyone:

- A new generation goes to one node. When that has acknowledged all of it (or has been silent for `FIRST_ALONE_S`), the
  others get it. A newer one that comes meanwhile takes the place of the one that waits.
- A node that refuses any part of a generation is given its last good one again, whole, until there is another.
- More than half of the nodes that answered a generation refused it (at least two have answered, where there are two):
  the fleet goes back to the last generation that was good, and `on_rollback` is told.

What a node runs is known by what it acknowledged. A node that reconnects begins anew: it is given the newest that the
fleet has, and if it refused that before it will again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from control_plane.xds.ads_stream import Refusal, short_type
from control_plane.xds.generation import Generation
from control_plane.xds.nodes import Node, Nodes

FIRST_ALONE_S = 2.0
"""An Envoy on one busy CPU acknowledges in some 10 ms; one that hangs must not keep a change from the others."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RolledBack:
    """Why the fleet does not run what was published last. `at_s` is Unix seconds."""

    node: str
    type: str
    message: str
    refused: int
    answered: int
    at_s: float

    def __str__(self) -> str:
        return f"{self.refused} of {self.answered} nodes refused it; {self.node}, {self.type}: {self.message}"


@dataclass(slots=True)
class _Seen:
    """Of one connected node."""

    wake: asyncio.Event
    good: Generation | None = None
    """The last one that it acknowledged whole."""
    answered: dict[int, bool] = field(default_factory=dict)
    """By generation: whether it acknowledged all of it. One refusal is enough for False."""
    refusal: str = ""
    """What it said no with last."""
    silent: bool = False
    """It was first and did not answer in time: it is not first again until it has."""


class Fleet:
    """`on_rollback` is called with what went wrong and the generation that is in force again."""

    def __init__(
        self,
        generation: Generation,
        on_rollback: Callable[[RolledBack, Generation], None] = lambda _why, _to: None,
        on_good: Callable[[Generation], None] = lambda _: None,
        before: Generation | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`before`: what an earlier process left, to go back to until something newer is good."""
        self.nodes = Nodes()
        self._newest = self._spread = generation
        self._good = before
        """The last one that most nodes acknowledged."""
        self._first: Node | None = None
        self._alone_since = 0.0
        self._seen: dict[Node, _Seen] = {}
        self._watchers: set[asyncio.Event] = set()
        self._on_rollback = on_rollback
        self._on_good = on_good
        self._clock = clock

    @property
    def newest(self) -> Generation:
        """What everyone gets if nobody refuses it."""
        return self._newest

    def publish(self, generation: Generation) -> None:
        """Give it to the first node, or to all where none has answered anything yet."""
        waiting = self._newest is not self._spread
        self._newest = generation
        if not waiting or self._first not in self._seen:
            self._first = self._choose_first(generation)
            self._alone_since = self._clock()
        if self._first is None:
            self._spread = generation
            self._wake_all()
        else:
            self._seen[self._first].wake.set()
        self._wake_watchers()

    def generation(self, node: Node) -> Generation:
        """What this node is to run now."""
        seen = self._seen[node]
        target = self._newest if node is self._first else self._spread
        if seen.answered.get(target.number) is False and seen.good is not None:
            return seen.good
        return target

    def good(self, node: Node) -> Generation | None:
        """What it acknowledged whole last."""
        return self._seen[node].good

    def held(self, node: Node) -> str:
        """Why it runs an older generation than the others: what it said of theirs. Empty: it does not."""
        seen = self._seen.get(node)
        if seen is None or seen.answered.get(self._newest.number) is not False:
            return ""
        return seen.refusal

    def settled(self, node: Node, generation: Generation) -> None:
        """The node has acknowledged all that it asked for of this generation."""
        seen = self._seen[node]
        seen.silent = False
        if seen.good is generation:
            return
        seen.good = generation
        if seen.answered.get(generation.number) is False:
            return  # of an earlier refusal: it was given other resources of the same content
        seen.answered[generation.number] = True
        _forget(seen.answered, generation.number)
        if node is self._first and generation.number > self._spread.number:
            self._spread_to_all(generation)
        answers = self._answers(generation)
        if generation.number > self._good_number() and sum(answers) * 2 > len(self._seen):
            self._good = generation
            self._on_good(generation)
        self._wake_watchers()

    def refused(self, node: Node, generation: Generation, refusal: Refusal) -> None:
        """The node said no to some part of this generation."""
        seen = self._seen[node]
        seen.answered[generation.number] = False
        seen.refusal = f"{short_type(refusal.type_url)}: {refusal.message}"
        if generation is not self._newest and generation is not self._spread:
            return
        answers = self._answers(generation)
        refusals = answers.count(False)
        enough = len(answers) >= min(2, len(self._seen))
        if enough and refusals * 2 > len(answers) and self._fallback(generation) is not None:
            self._roll_back(node, generation, refusal, refusals, len(answers))
        elif node is self._first:
            self._first = self._choose_first(generation)
            self._alone_since = self._clock()
            if self._first is None:
                self._spread_to_all(self._newest)
            else:
                self._seen[self._first].wake.set()
        self._wake_watchers()

    def tick(self) -> None:
        """The first node is not waited for forever. Call it a few times a second."""
        if self._newest is self._spread or self._clock() - self._alone_since < FIRST_ALONE_S:
            return
        if self._first in self._seen:
            self._seen[self._first].silent = True
            _LOG.warning("the first node is silent", extra={"fields": {"node": self._first.id}})
        self._spread_to_all(self._newest)

    @contextlib.contextmanager
    def connected(self, node: Node) -> Iterator[asyncio.Event]:
        """While the node's stream lives: an event that is set whenever it may be given something else."""
        wake = asyncio.Event()
        self._seen[node] = _Seen(wake)
        self.nodes.add(node)
        try:
            yield wake
        finally:
            del self._seen[node]
            self.nodes.remove(node)
            if node is self._first:
                self._first = None
                if self._newest is not self._spread:
                    self.publish(self._newest)
            self._wake_watchers()

    @contextlib.contextmanager
    def changes(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever what is published, or what of it is in force, changed."""
        event = asyncio.Event()
        self._watchers.add(event)
        try:
            yield event
        finally:
            self._watchers.discard(event)

    def _choose_first(self, generation: Generation) -> Node | None:
        """The longest connected one that answers, and has not answered this generation yet."""
        for node, seen in self._seen.items():
            if seen.good is not None and not seen.silent and generation.number not in seen.answered:
                return node
        return None

    def _spread_to_all(self, generation: Generation) -> None:
        self._spread = generation
        if generation is self._newest:
            self._first = None
        self._wake_all()

    def _roll_back(self, node: Node, generation: Generation, refusal: Refusal, refusals: int, answers: int) -> None:
        back = self._fallback(generation)
        assert back is not None  # asked before
        why = RolledBack(node.id, short_type(refusal.type_url), refusal.message, refusals, answers, time.time())
        self._newest = self._spread = back
        self._first = None
        _LOG.error("rolled back", extra={"fields": {"why": str(why)}})
        self._on_rollback(why, back)
        self._wake_all()

    def _fallback(self, generation: Generation) -> Generation | None:
        return self._good if self._good is not None and self._good is not generation else None

    def _good_number(self) -> int:
        return 0 if self._good is None else self._good.number

    def _answers(self, generation: Generation) -> list[bool]:
        found = [seen.answered.get(generation.number) for seen in self._seen.values()]
        return [one for one in found if one is not None]

    def _wake_all(self) -> None:
        for seen in self._seen.values():
            seen.wake.set()

    def _wake_watchers(self) -> None:
        for event in self._watchers:
            event.set()


def _forget(answered: dict[int, bool], number: int) -> None:
    for old in [one for one in answered if one < number]:
        del answered[old]
