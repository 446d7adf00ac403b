"""Owns one state that the whole fleet is to reach, and the snapshot that a node gets of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from control_plane.sidecar import UnsuitablePolicy
from control_plane.xds.nodes import GATEWAY, Node
from control_plane.xds.snapshot import Snapshot
from paymesh.payments.policy.compiled import Policy

_NUMBERS = itertools.count(1)
Build = Callable[[Node], Snapshot]
"""The snapshot for nodes like this one. Raises UnsuitablePolicy."""


class Generation:
    """Snapshots by what makes a difference between nodes, each built when the first of them asks for it.

    `zones`: those in which hosts stand. `policy` is None for what an earlier process left behind.
    """

    def __init__(self, policy: Policy | None, common: Snapshot, zones: frozenset[str], build: Build) -> None:
        self.number = next(_NUMBERS)
        self.policy = policy
        self.common = common
        """For a gateway in no zone that matters."""
        self._zones = zones
        self._build = build
        self._built: dict[tuple[str, str, str], Snapshot | str] = {}

    def snapshot(self, node: Node) -> Snapshot | None:
        """What this node runs; None where the policy is nothing for its kind: `node.problem` says why."""
        zone = node.zone if node.zone in self._zones else ""
        if node.kind == GATEWAY and not zone:
            return self.common
        key = (node.kind, node.application, zone)
        found = self._built.get(key)
        if found is None:
            try:
                found = self._build(node)
            except UnsuitablePolicy as error:
                found = str(error)
            self._built[key] = found
        node.problem = found if isinstance(found, str) else ""
        return None if isinstance(found, str) else found
