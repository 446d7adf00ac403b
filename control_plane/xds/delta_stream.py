"""Owns one incremental (delta) ADS stream: only what changed is sent, and what is gone is named.

Knows no transport. The rules are those of Envoy's xDS protocol documentation, "Incremental xDS":

- a nonce tells which answer is acknowledged or refused, nothing else: changed subscriptions count on any request;
- what is subscribed again is sent again, since the client may have dropped it;
- what is subscribed and does not exist is named in `removed_resources`, so that the client need not wait for it;
- `initial_resource_versions` of a client that reconnects: it is sent only what differs, and told what is gone;
- the first request for listeners and clusters without names, or "*" at any time, means all of them;
- order, make before break, and endpoints after a changed cluster: as on a stream of the state of the world.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from control_plane.resources.names import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, TYPES
from control_plane.xds.ads_stream import REFERRING, WILDCARD, Refusal
from control_plane.xds.nodes import Node, TypeState
from control_plane.xds.snapshot import Snapshot

_BY_WILDCARD = (LISTENER_TYPE, CLUSTER_TYPE)


@dataclass(frozen=True, slots=True)
class DeltaAsked:
    """A DeltaDiscoveryRequest. `error` is None for an ACK, Envoy's message for a NACK."""

    type_url: str
    nonce: str = ""
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """One resource of a DeltaDiscoveryResponse; `data` is serialised."""

    name: str
    version: str
    data: bytes


@dataclass(frozen=True, slots=True)
class DeltaAnswer:
    """A DeltaDiscoveryResponse. `version` is the snapshot's, for people."""

    type_url: str
    version: str
    nonce: str
    changed: tuple[Changed, ...]
    removed: tuple[str, ...]


@dataclass(slots=True)
class _Subscription:
    names: set[str] = field(default_factory=set)
    everything: bool = False
    held: dict[str, str] = field(default_factory=dict)
    """Versions of what the client has, by name."""
    refused: dict[str, str] = field(default_factory=dict)
    """Versions that it refused: never sent again as they are."""
    missing: set[str] = field(default_factory=set)
    """Names that it was told do not exist."""
    in_flight: tuple[Changed, ...] | None = None
    """What the last answer holds, until it was acknowledged or refused."""
    nonce: str = ""
    version: str = ""
    acked: str = ""
    looked_at: str = ""
    owed: bool = False
    """The first request of a client that has nothing is answered, also where there is nothing."""
    failed: bool = False
    """The last answer was refused."""


class DeltaStream:
    """The state of one stream."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._subscriptions: dict[str, _Subscription] = {}
        self._nonces = 0

    def take(self, asked: DeltaAsked) -> Refusal | None:
        """Note what a request says; a refusal is returned. Types that we do not serve are remembered by nobody."""
        if asked.type_url not in TYPES:
            return None
        subscription = self._subscriptions.get(asked.type_url)
        refusal = None
        if subscription is None:
            subscription = self._subscriptions[asked.type_url] = _Subscription(owed=not asked.initial_versions)
            subscription.everything = asked.type_url in _BY_WILDCARD and not asked.subscribe
            subscription.held = dict(asked.initial_versions)
        elif asked.nonce and asked.nonce == subscription.nonce and subscription.in_flight is not None:
            refusal = self._record(asked, subscription)
        self._resubscribe(asked, subscription)
        return refusal

    def answers(self, snapshot: Snapshot) -> list[DeltaAnswer]:
        """What to send now, in the order in which Envoy must get it."""
        found = []
        for type_url in TYPES:
            subscription = self._subscriptions.get(type_url)
            if subscription is None:
                continue
            if type_url in REFERRING and self._clusters_pending():
                break  # sent as soon as the clusters are acknowledged or refused
            if subscription.in_flight is None:
                answer = self._answer(type_url, subscription, snapshot)
                found += [] if answer is None else [answer]
        return found

    def settled(self, snapshot: Snapshot) -> bool:
        """Whether Envoy has acknowledged all of the snapshot that it asked for, and nothing else."""
        return bool(self._subscriptions) and all(
            one.looked_at == snapshot.versions[type_url] and one.in_flight is None and not one.failed
            for type_url, one in self._subscriptions.items()
        )

    def _answer(self, type_url: str, subscription: _Subscription, snapshot: Snapshot) -> DeltaAnswer | None:
        version = snapshot.versions[type_url]
        if subscription.looked_at == version and not subscription.owed:
            return None
        available = snapshot.resource_versions(type_url)
        wanted = available.keys() if subscription.everything else subscription.names & available.keys()
        data = snapshot.resources[type_url]
        changed = tuple(
            Changed(name, available[name], data[name])
            for name in wanted
            if available[name] not in (subscription.held.get(name), subscription.refused.get(name))
        )
        gone = {name for name in subscription.held if name not in available}
        # What old routes use stays until they are gone.
        complete = type_url in REFERRING or self._routes_taken(snapshot)
        removed = gone if complete else set()
        if complete or not gone:
            subscription.looked_at = version
        unknown = subscription.names - available.keys() - subscription.held.keys() - subscription.missing
        if not changed and not removed and not unknown and not (subscription.owed and subscription.everything):
            subscription.owed = False
            return None
        subscription.owed = False
        if type_url == CLUSTER_TYPE:
            self._endpoints_again({one.name for one in changed})
        for one in changed:
            subscription.held[one.name] = one.version
        for name in removed:
            del subscription.held[name]
        subscription.missing = (subscription.missing - available.keys()) | unknown | (removed & subscription.names)
        self._nonces += 1
        subscription.nonce, subscription.version, subscription.in_flight = str(self._nonces), version, changed
        self._state(type_url).sent = version
        return DeltaAnswer(type_url, version, subscription.nonce, changed, tuple(sorted(removed | unknown)))

    def _resubscribe(self, asked: DeltaAsked, subscription: _Subscription) -> None:
        for name in asked.subscribe:
            if name == WILDCARD:
                subscription.everything = True
            else:
                subscription.names.add(name)
                subscription.missing.discard(name)
            if name not in asked.initial_versions:
                subscription.held.pop(name, None)
        for name in asked.unsubscribe:
            if name == WILDCARD:
                subscription.everything = False
            subscription.names.discard(name)
            if not subscription.everything:
                subscription.held.pop(name, None)
            subscription.missing.discard(name)
        if asked.subscribe or asked.unsubscribe:
            subscription.looked_at = ""

    def _endpoints_again(self, clusters: set[str]) -> None:
        """Envoy warms a changed cluster with an answer of its endpoints, also where they are as before."""
        endpoints = self._subscriptions.get(ENDPOINT_TYPE)
        if endpoints is not None:
            for name in clusters & endpoints.held.keys():
                del endpoints.held[name]
                endpoints.looked_at = ""

    def _clusters_pending(self) -> bool:
        clusters = self._subscriptions.get(CLUSTER_TYPE)
        return clusters is not None and clusters.in_flight is not None

    def _routes_taken(self, snapshot: Snapshot) -> bool:
        routes = self._subscriptions.get(ROUTE_TYPE)
        if routes is None:
            return True
        return routes.in_flight is None and not routes.failed and routes.looked_at == snapshot.versions[ROUTE_TYPE]

    def _record(self, asked: DeltaAsked, subscription: _Subscription) -> Refusal | None:
        sent, subscription.in_flight = subscription.in_flight or (), None
        state = self._state(asked.type_url)
        subscription.failed = asked.error is not None
        if asked.error is None:
            for one in sent:
                subscription.refused.pop(one.name, None)
            subscription.acked = state.acked = subscription.version
            state.acked_at_s = time.time()
            state.refused = state.message = ""
            return None
        for one in sent:
            # Some of them may have been taken: what is sent next is sent whatever it is.
            if subscription.held.get(one.name) == one.version:
                del subscription.held[one.name]
            subscription.refused[one.name] = one.version
        state.refused, state.message = subscription.version, asked.error
        return Refusal(asked.type_url, asked.error)

    def _state(self, type_url: str) -> TypeState:
        return self.node.types.setdefault(type_url, TypeState())
