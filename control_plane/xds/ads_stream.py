"""Owns one ADS stream, state of the world: what to answer to a request and what to push after a change.

Knows no transport: one message in, messages out. The rules are those of Envoy's xDS protocol documentation
("xDS REST and gRPC protocol") and of the quirks seen with Envoy 1.40:

- the node is in the first request only; nonces belong to the stream; a request with a stale nonce gets no answer;
- a NACK is `error_detail`, never a comparison of versions, and is not answered with the same version again;
- LDS and CDS are complete sets: of everything until a client gives names (or again with "*"), then of those names;
- RDS and EDS are answered by name, newly asked names even when nothing changed, and a name that does not exist yet is
  remembered; RDS and EDS cannot delete;
- a changed cluster needs its endpoints again, even if they did not change;
- an unchanged set is never sent again;
- make before break: listeners and routes wait until Envoy has taken the clusters (it acknowledges them when they are
  warm), and clusters that are gone stay until it has taken the routes that no longer use them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from control_plane.resources.names import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, TYPES
from control_plane.xds.nodes import Node, Nodes, TypeState
from control_plane.xds.snapshot import Snapshot

_COMPLETE = (LISTENER_TYPE, CLUSTER_TYPE)
_WILDCARD = "*"
_REFERRING = (LISTENER_TYPE, ROUTE_TYPE)
_LEAVING = "+leaving"
"""Ends the version of clusters among which some are gone already and wait for the routes to leave them."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A DiscoveryRequest. `error` is None for an ACK, Envoy's message for a NACK."""

    type_url: str
    nonce: str
    names: tuple[str, ...]
    node_id: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A DiscoveryResponse; `resources` are serialised."""

    type_url: str
    version: str
    nonce: str
    resources: tuple[bytes, ...]


@dataclass(slots=True)
class _Subscription:
    names: frozenset[str] = frozenset()
    everything: bool = True
    """Of listeners and clusters: no name was ever given, or "*" was."""
    nonce: str = ""
    version: str = ""
    acked: str = ""
    sent: dict[str, bytes] = field(default_factory=dict)
    """What the client holds of what it asked for."""
    owed: bool = False
    """Send although nothing changed: it asked anew, or the clusters that need it changed."""
    pending: bool = False
    """The last answer was neither acknowledged nor refused yet."""


class AdsStream:
    """The state of one stream. `close()` when it ended."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._node: Node | None = None
        self._subscriptions: dict[str, _Subscription] = {}
        self._nonces = 0

    def on_request(self, asked: Asked, snapshot: Snapshot) -> list[Answer]:
        """What to send after a request. Unknown types get no answer and are remembered by nobody."""
        if self._node is None:
            self._node = Node(asked.node_id)
            self._nodes.add(self._node)
        if asked.type_url not in TYPES:
            return []
        subscription = self._subscriptions.get(asked.type_url)
        if subscription is None:
            subscription = self._subscriptions[asked.type_url] = _Subscription(owed=True)
        elif asked.nonce != subscription.nonce:
            return []
        else:
            self._record(asked, subscription)
        names = frozenset(asked.names)
        subscription.owed |= bool(names - subscription.names)
        subscription.names = names
        subscription.everything = _WILDCARD in names or (subscription.everything and not names)
        if asked.type_url not in _COMPLETE or not subscription.everything:
            subscription.sent = _only(subscription.sent, names)
        return self.on_snapshot(snapshot)

    def on_snapshot(self, snapshot: Snapshot) -> list[Answer]:
        """What to send now, in the order in which Envoy must get it."""
        answers = []
        for type_url in TYPES:
            subscription = self._subscriptions.get(type_url)
            if subscription is None:
                continue
            if type_url in _REFERRING and self._clusters_pending():
                break  # sent as soon as the clusters are acknowledged or refused
            answer = self._answer(type_url, subscription, snapshot)
            if answer is not None:
                answers.append(answer)
        return answers

    def close(self) -> None:
        if self._node is not None:
            self._nodes.remove(self._node)

    def _answer(self, type_url: str, subscription: _Subscription, snapshot: Snapshot) -> Answer | None:
        wanted, version = dict(snapshot.resources[type_url]), snapshot.versions[type_url]
        if type_url == CLUSTER_TYPE and not self._routes_taken(snapshot):
            leaving = {name: data for name, data in subscription.sent.items() if name not in wanted}
            wanted |= leaving
            version += _LEAVING if leaving else ""
        if type_url in _COMPLETE:
            wanted = wanted if subscription.everything else _only(wanted, subscription.names)
            changed = wanted != subscription.sent
            if not wanted and not subscription.everything and not subscription.sent:
                return None  # nothing of what was asked exists yet
        else:
            wanted = _only(wanted, subscription.names)
            changed = any(subscription.sent.get(name) != data for name, data in wanted.items())
            if not wanted:
                return None  # nothing of what was asked exists yet; RDS and EDS cannot say so
        if not changed and not subscription.owed:
            return None
        if type_url == CLUSTER_TYPE:
            self._mark_endpoints(subscription.sent, wanted)
        self._nonces += 1
        subscription.nonce, subscription.version = str(self._nonces), version
        subscription.sent, subscription.owed, subscription.pending = wanted, False, True
        self._state(type_url).sent = version
        return Answer(type_url, version, subscription.nonce, tuple(wanted.values()))

    def _clusters_pending(self) -> bool:
        clusters = self._subscriptions.get(CLUSTER_TYPE)
        return clusters is not None and clusters.pending

    def _routes_taken(self, snapshot: Snapshot) -> bool:
        routes = self._subscriptions.get(ROUTE_TYPE)
        return routes is None or (not routes.pending and routes.acked == snapshot.versions[ROUTE_TYPE])

    def _mark_endpoints(self, before: dict[str, bytes], after: dict[str, bytes]) -> None:
        """Also for a cluster that left and came back before Envoy could unsubscribe its endpoints."""
        endpoints = self._subscriptions.get(ENDPOINT_TYPE)
        if endpoints is not None and any(before.get(name) != after[name] for name in endpoints.names & after.keys()):
            endpoints.owed = True

    def _record(self, asked: Asked, subscription: _Subscription) -> None:
        if not subscription.pending:
            return  # only names changed; in particular no acknowledgement of what was refused before
        subscription.pending = False
        state = self._state(asked.type_url)
        if asked.error is not None:
            state.refused, state.message = subscription.version, asked.error
        else:
            subscription.acked = state.acked = subscription.version
            state.acked_at_s = time.time()
            state.refused = state.message = ""

    def _state(self, type_url: str) -> TypeState:
        assert self._node is not None
        return self._node.types.setdefault(type_url, TypeState())


def _only(resources: Mapping[str, bytes], names: frozenset[str]) -> dict[str, bytes]:
    return {name: resources[name] for name in sorted(names & resources.keys())}


def short_type(type_url: str) -> str:
    """`...listener.v3.Listener` -> `Listener`."""
    return type_url.rsplit(".", 1)[-1]
