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
from control_plane.settings import GatewaySettings
from control_plane.sidecar import sidecar_policy
from control_plane.weights import WeightChange, WeightStore, conflicts, effective_weights, effective_weights_of
from control_plane.xds.fleet import Fleet, RolledBack
from control_plane.xds.generation import Generation
from control_plane.xds.nodes import GATEWAY, SIDECAR, Node, Nodes
from control_plane.xds.snapshot import Snapshot, Weights, build_snapshot
from control_plane.xds.validation import EnvoyRefuses, Validator
from paymesh.payments.policy.compiled import Policy, Service
from paymesh.payments.policy.problems import PolicyErrors, PolicyProblem
from paymesh.payments.releases.traffic import NO_RULES, Rules, Traffic

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
        self.keeps: Callable[[Policy], list[str]] = lambda _: []
        """Why a policy cannot take over besides, such as for what releases need of it."""
        self._recorded, self._rules = store.recorded(), store.rules()
        self._hosts: dict[str, tuple[Host, ...]] = {}
        self._policy = _accepted(policy, self._recorded)
        self._recorded = self._first_seen(policy)
        self._lock = asyncio.Lock()
        self._route_cache, self._building = RouteCache(), threading.Lock()
        self._routes_built: OrderedDict[str, Mapping[str, Traffic]] = OrderedDict()
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
            _accepted(policy, {**self.weights, **self._recorded})
            _refuse(self.keeps(policy), "(releases under way)")
            if self._validator is not None:
                await asyncio.to_thread(_envoy_accepts, self._validator.check, self._for_validation(policy))
            generation = await asyncio.to_thread(self._generation, policy)
            if self.before_publish is not None:
                await self.before_publish(policy)
            self._recorded = await asyncio.to_thread(self._first_seen, policy)
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

    async def set_weights(
        self, service_name: str, given: Mapping[str, int], actor: str, reason: str, rules: Rules | None = None
    ) -> WeightChange:
        """Record and publish a split; `rules` None: they stay as they are. Raises UnknownService, InvalidWeights."""
        # Shielded: a caller that gives up may not leave weights that are recorded but published to nobody.
        return await asyncio.shield(self._set_weights(service_name, given, actor, reason, rules))

    async def _set_weights(
        self, service_name: str, given: Mapping[str, int], actor: str, reason: str, rules: Rules | None
    ) -> WeightChange:
        async with self._lock:
            service = self._policy.services.get(service_name)
            if service is None:
                raise UnknownService(service_name)
            before = self.weights[service_name]
            change = await asyncio.to_thread(self._store.record, service, given, before, actor, reason, rules)
            self._recorded = {**self._recorded, service_name: dict(change.after)}
            if rules is not None:
                self._rules = {**self._rules, service_name: rules}
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

    def traffic(self, service_name: str) -> Traffic | None:
        """What was set last, which nodes may have refused since; None: there is no such service."""
        service = self._policy.services.get(service_name)
        if service is None:
            return None
        return Traffic(effective_weights_of(service, self._recorded), self._rules_of(service))

    def actual_traffic(self, service: str) -> Traffic | None:
        """What every connected node has acknowledged; None while they differ or none is connected."""
        confirmed = [self._confirmed(version, service) for version in self._acked_routes()]
        if not confirmed or any(traffic != confirmed[0] for traffic in confirmed):
            return None
        return confirmed[0]

    def actual_weights(self, service: str) -> Mapping[str, int] | None:
        """Those of `actual_traffic`."""
        actual = self.actual_traffic(service)
        return None if actual is None else actual.weights

    def _confirmed(self, version: str, service: str) -> Traffic | None:
        built = self._routes_built.get(version)
        return None if built is None else built.get(service)

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
        rules = self._all_rules(policy)

        def build(node: Node) -> Snapshot:
            if node.kind == SIDECAR:
                theirs, all_there = sidecar_policy(policy, node.application)
                return build_snapshot(theirs, all_there, self._settings)
            with self._building:
                return build_snapshot(
                    policy, weights, self._settings, hosts, self._kept, node.zone, self._route_cache, rules
                )

        return Generation(policy, self._remember(build(Node(""))), zones_of(hosts), build)

    def _for_validation(self, policy: Policy) -> Snapshot:
        """As Envoy gets it, but with no file that is on Envoy's machine only."""
        here = dataclasses.replace(self._settings, access_log="/dev/null", health_events=None)
        weights = effective_weights(policy, self._recorded)
        with self._building:
            rules = self._all_rules(policy)
            return build_snapshot(policy, weights, here, self._hosts, self._kept, routes=self._route_cache, rules=rules)

    def _first_seen(self, policy: Policy) -> dict[str, dict[str, int]]:
        """The recorded weights, with those of services that were never seen: another policy does not move them."""
        fresh = [one for one in policy.services.values() if len(one.versions) > 1 and one.name not in self._recorded]
        given = {service.name: effective_weights_of(service, {}) for service in fresh}
        self._store.record_first(given)
        return {**self._recorded, **given}

    def _all_rules(self, policy: Policy) -> dict[str, Rules]:
        return {service.name: self._rules_of(service) for service in policy.services.values()}

    def _rules_of(self, service: Service) -> Rules:
        """Those whose versions the service still has: no policy without them is accepted while a release needs one."""
        rules = self._rules.get(service.name, NO_RULES)
        known = rules.versions <= {version.name for version in service.versions}
        return rules if known else dataclasses.replace(NO_RULES, salt=rules.salt)

    def _remember(self, snapshot: Snapshot) -> Snapshot:
        version = snapshot.versions[ROUTE_TYPE]
        self._routes_built[version] = {
            name: Traffic(split, snapshot.rules.get(name, NO_RULES)) for name, split in snapshot.weights.items()
        }
        self._routes_built.move_to_end(version)
        while len(self._routes_built) > _REMEMBERED:
            self._routes_built.popitem(last=False)
        return snapshot


def _accepted(policy: Policy, recorded: Weights) -> Policy:
    _refuse(conflicts(policy, recorded), "(recorded weights)")
    return policy


def _refuse(problems: list[str], where: str) -> None:
    if problems:
        raise PolicyErrors([PolicyProblem(where, 0, "", problem) for problem in problems])


def _envoy_accepts(check: Callable[[Snapshot], None], snapshot: Snapshot) -> None:
    try:
        check(snapshot)
    except EnvoyRefuses as error:
        raise PolicyErrors([PolicyProblem("(envoy --mode validate)", 0, "", str(error))]) from None
