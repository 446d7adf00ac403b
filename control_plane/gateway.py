"""Owns what Envoy is to run now: policy and weights together become one snapshot, and each change is published whole.

Refuses a policy that cannot take over from the weights in force. One change at a time: a lock orders them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from control_plane.resources.names import ROUTE_TYPE
from control_plane.resources.routes import Weights
from control_plane.settings import GatewaySettings
from control_plane.weights import WeightChange, WeightStore, conflicts, effective_weights
from control_plane.xds.nodes import Nodes
from control_plane.xds.server import SnapshotCache
from control_plane.xds.snapshot import Snapshot, build_snapshot
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.problems import PolicyErrors, PolicyProblem

_LOG = logging.getLogger(__name__)
_REMEMBERED = 1000
"""Route versions whose weights are known, so that an ACK tells the actual weight."""


class UnknownService(Exception):  # noqa: N818 - it names what was asked for
    """The policy has no such service."""


class Gateway:
    """The desired state of the data plane, and what of it the nodes have confirmed."""

    def __init__(self, policy: Policy, store: WeightStore, settings: GatewaySettings) -> None:
        """Raises PolicyErrors if the policy conflicts with the recorded weights."""
        self._settings = settings
        self._store = store
        self._recorded = store.recorded()
        self._policy = _accepted(policy, self._recorded)
        self._lock = asyncio.Lock()
        self._routes_built: OrderedDict[str, Weights] = OrderedDict()
        self.cache = SnapshotCache(self._remember(self._build(self._policy)))
        self.nodes = Nodes()

    @property
    def policy(self) -> Policy:
        return self._policy

    @property
    def weights(self) -> Weights:
        """Set weights: what every node is told."""
        return self.cache.current.weights

    async def use_policy(self, policy: Policy) -> None:
        """Publish a new policy; weights stay. Raises PolicyErrors, and then nothing changed."""
        async with self._lock:
            snapshot = await asyncio.to_thread(self._build, _accepted(policy, self._recorded))
            self._policy = policy
            self.cache.publish(self._remember(snapshot))

    async def set_weights(self, service_name: str, given: Mapping[str, int], actor: str, reason: str) -> WeightChange:
        """Record and publish a split. Raises UnknownService, InvalidWeights."""
        # Shielded: a caller that gives up may not leave weights that are recorded but published to nobody.
        return await asyncio.shield(self._set_weights(service_name, given, actor, reason))

    async def _set_weights(self, service_name: str, given: Mapping[str, int], actor: str, reason: str) -> WeightChange:
        async with self._lock:
            service = self._policy.services.get(service_name)
            if service is None:
                raise UnknownService(service_name)
            before = self.weights[service_name]
            change = await asyncio.to_thread(self._store.record, service, given, before, actor, reason)
            self._recorded = {**self._recorded, service_name: dict(change.after)}
            self.cache.publish(self._remember(await asyncio.to_thread(self._build, self._policy)))
        _LOG.info(
            "weights set",
            extra={
                "fields": {
                    "target": service_name,
                    "before": dict(change.before),
                    "after": dict(change.after),
                    "actor": actor,
                    "reason": reason,
                }
            },
        )
        return change

    def actual_weights(self, service: str) -> Mapping[str, int] | None:
        """What every connected node has acknowledged; None while they differ or none is connected."""
        confirmed = [self._confirmed(version, service) for version in self._acked_routes()]
        if not confirmed or any(weights != confirmed[0] for weights in confirmed):
            return None
        return confirmed[0]

    def _confirmed(self, version: str, service: str) -> Mapping[str, int] | None:
        weights = self._routes_built.get(version)
        return None if weights is None else weights.get(service)

    def _acked_routes(self) -> Sequence[str]:
        return [node.types[ROUTE_TYPE].acked if ROUTE_TYPE in node.types else "" for node in self.nodes]

    def _build(self, policy: Policy) -> Snapshot:
        return build_snapshot(policy, effective_weights(policy, self._recorded), self._settings)

    def _remember(self, snapshot: Snapshot) -> Snapshot:
        version = snapshot.versions[ROUTE_TYPE]
        self._routes_built[version] = snapshot.weights
        self._routes_built.move_to_end(version)
        while len(self._routes_built) > _REMEMBERED:
            self._routes_built.popitem(last=False)
        return snapshot


def _accepted(policy: Policy, recorded: Weights) -> Policy:
    problems = conflicts(policy, recorded)
    if problems:
        raise PolicyErrors([PolicyProblem("(recorded weights)", 0, "", problem) for problem in problems])
    return policy
