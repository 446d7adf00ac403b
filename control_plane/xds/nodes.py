"""Owns what is known of each connected Envoy: what kind it is, and per type what was sent, acknowledged and refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

GATEWAY, SIDECAR = "gateway", "sidecar"


@dataclass(slots=True)
class TypeState:
    """One type at one node. Versions are the snapshot's; times are Unix seconds."""

    sent: str = ""
    acked: str = ""
    acked_at_s: float = 0.0
    refused: str = ""
    """The version that Envoy refused last; empty once a later one was accepted."""
    message: str = ""
    """Envoy's own message about it."""


@dataclass(slots=True, eq=False)
class Node:
    """One stream of one Envoy, as its bootstrap's node describes it.

    `zone`: the metadata paymesh.region, else the zone of its locality; empty: not told. `kind`, `application`: the
    metadata paymesh.kind and paymesh.application.
    `problem`: why there is nothing for it.
    """

    id: str
    zone: str = ""
    kind: str = GATEWAY
    application: str = ""
    delta: bool = False
    problem: str = ""
    connected_at_s: float = field(default_factory=time.time)
    types: dict[str, TypeState] = field(default_factory=dict)


class Nodes:
    """Every connected node. Whoever's stream ended is forgotten."""

    def __init__(self) -> None:
        self._nodes: dict[int, Node] = {}

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._nodes.values()))

    def __len__(self) -> int:
        return len(self._nodes)

    def add(self, node: Node) -> None:
        self._nodes[id(node)] = node

    def remove(self, node: Node) -> None:
        self._nodes.pop(id(node), None)
