"""Owns what Envoy is to run now: policy, weights and found hosts become one generation, and each is published whole.

Refuses a policy that cannot take over from the weights in force, or that Envoy refuses (`envoy --mode validate`). One
change at a time: a lock orders them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence

from control_plane.discovery.contract import Host
from control_plane.resources.endpoints import zones_of
from control_plane.resources.names import ENDPOINT_TYPE, ROUTE_TYPE
from control_plane.resources.route_cache import RouteCache
from control_plane.resources.routes import Weights
from control_plane.settings import GatewaySettings
from control_plane.sidecar import sidecar_policy
from control_plane.weights import WeightChange, WeightStore, conflicts, effective_weights
from control_plane.xds.fleet import Fleet, RolledBack
from control_plane.xds.generation import Generation
from control_plane.xds.nodes import GATEWAY, SIDECAR, Node, Nodes
from control_plane.xds.snapshot import Snapshot, build_snapshot
from control_plane.xds.validation import EnvoyRefuses, Validator
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.problems import PolicyErrors, PolicyProblem

_LOG = logging.getLogger(__name__)
_REMEMBERED = 1000
"""Route versions whose weights are known, so that an ACK tells the actual weight."""

BeforePublish = Callable[[Policy], Awaitable[None]]
"""Told of a policy before Envoys get its routes. Raises PolicyErrors to refuse it."""


class UnknownService(Exception):  # noqa: N818 - it names what was asked for
    """The policy has no such service."""


class Gateway:
    """The desired state of the data plane, and what of it the nodes have confirmed.

    `last_good`: what an earlier process left; its endpoints serve until discovery has answered, and all of it is where
    the fleet goes back to first.
    """

    def __init__(
        self,
        policy: Policy,
        store: WeightStore,
        settings: GatewaySettings,
        *,
        validator: Validator | None = None,
        last_good: Snapshot | None = None,
        on_good: Callable[[Snapshot], None] = lambda _: None,
    ) -> None:
        """Raises PolicyErrors if the policy conflicts with the recorded weights, or Envoy refuses it."""
        self._settings = settings
        self._store = store
        self._validator = validator
        self._kept = {} if last_good is None else last_good.resources[ENDPOINT_TYPE]
        self.before_publish: BeforePublish | None = None
        self.after_rollback: Callable[[], None] = lambda: None
        """Called when an older policy is in force again."""
        self._recorded = store.recorded()
        self._hosts: dict[str, tuple[Host, ...]] = {}
        self._policy = _accepted(policy, self._recorded)
        self._lock = asyncio.Lock()
        self._route_cache, self._building = RouteCache(), threading.Lock()
        self._routes_built: OrderedDict[str, Weights] = OrderedDict()
        self.rolled_back: RolledBack | None = None
        """Why the policy published last is not in force; None when it is."""
        self.rollbacks = 0
        if validator is not None:
            _envoy_accepts(validator.check, self._for_validation(self._policy))
        before = None if last_good is None else Generation(None, last_good, frozenset(), lambda _: last_good)
        self.fleet = Fleet(
            self._generation(self._policy), self._take_back, lambda generation: on_good(generation.common), before
        )

    @property
    def nodes(self) -> Nodes:
        return self.fleet.nodes

    @property
    def policy(self) -> Policy:
        return self._policy

    @property
    def weights(self) -> Weights:
        """Set weights: what every node is told."""
        return self.fleet.newest.common.weights

    async def use_policy(self, policy: Policy) -> None:
        """Publish a new policy; weights stay. Raises PolicyErrors, and then nothing changed."""
        async with self._lock:
            _accepted(policy, self._recorded)
            if self._validator is not None:
                await asyncio.to_thread(_envoy_accepts, self._validator.check, self._for_validation(policy))
            generation = await asyncio.to_thread(self._generation, policy)
            if self.before_publish is not None:
                await self.before_publish(policy)
            self._policy, self.rolled_back = policy, None
            self.fleet.publish(generation)

    async def use_hosts(self, cluster: str, hosts: tuple[Host, ...]) -> None:
        """Publish what a registry found for a version; nobody is found by an empty answer."""
        if not hosts:
            raise ValueError(f"{cluster}: an empty answer never empties a cluster")
        async with self._lock:
            self._hosts[cluster] = hosts
            await self._republish()
        _LOG.info("hosts", extra={"fields": {"cluster": cluster, "hosts": len(hosts)}})

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
            await self._republish()
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
        return [
            node.types[ROUTE_TYPE].acked if ROUTE_TYPE in node.types else ""
            for node in self.nodes
            if node.kind == GATEWAY
        ]

    async def _republish(self) -> None:
        self.fleet.publish(await asyncio.to_thread(self._generation, self._policy))

    def _take_back(self, why: RolledBack, to: Generation) -> None:
        """The fleet has gone back to an older generation: what comes next starts from its policy."""
        self.rolled_back = why
        self.rollbacks += 1
        if to.policy is not None and to.policy is not self._policy:
            _LOG.error(
                "policy rolled back",
                extra={"fields": {"policy": to.policy.version, "before": self._policy.version}},
            )
            self._policy = to.policy
            self.after_rollback()

    def _generation(self, policy: Policy) -> Generation:
        weights, hosts = effective_weights(policy, self._recorded), dict(self._hosts)

        def build(node: Node) -> Snapshot:
            if node.kind == SIDECAR:
                theirs, all_there = sidecar_policy(policy, node.application)
                return build_snapshot(theirs, all_there, self._settings)
            with self._building:
                return build_snapshot(policy, weights, self._settings, hosts, self._kept, node.zone, self._route_cache)

        return Generation(policy, self._remember(build(Node(""))), zones_of(hosts), build)

    def _for_validation(self, policy: Policy) -> Snapshot:
        """As Envoy gets it, but with no file that is on Envoy's machine only."""
        here = dataclasses.replace(self._settings, access_log="/dev/null", health_events=None)
        weights = effective_weights(policy, self._recorded)
        with self._building:
            return build_snapshot(policy, weights, here, self._hosts, self._kept, routes=self._route_cache)

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


def _envoy_accepts(check: Callable[[Snapshot], None], snapshot: Snapshot) -> None:
    try:
        check(snapshot)
    except EnvoyRefuses as error:
        raise PolicyErrors([PolicyProblem("(envoy --mode validate)", 0, "", str(error))]) from None
