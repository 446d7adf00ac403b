"""Owns one ADS stream, state of the world: what to answer to a request and what to push after a change.

Knows no transport: one message in, messages out. The rules are those of Envoy's xDS protocol documentation
("xDS REST and gRPC protocol") and of the quirks seen with Envoy 1.40:

- the node is in the first request only; nonces belong to the stream; a request with a stale nonce gets no answer;
- a NACK is `error_detail`, never a comparison of versions, and is not answered with the same version again;
- LDS and CDS are complete sets: of everything until a client gives names (or again with "*"), then of those names;
- RDS, EDS and SDS are answered by name, newly asked names even when nothing changed, and a name that does not exist yet
  is remembered; they cannot delete;
- a changed cluster needs its endpoints again, even if they did not change;
- an unchanged set is never sent again, and a type is sent again only when its last answer was acknowledged or refused:
  a slow Envoy gets the newest, not everything in between;
- make before break: listeners and routes wait until Envoy has taken the clusters (it acknowledges them when they are
  warm), and clusters that are gone stay until it has taken the routes that no longer use them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from control_plane.resources.names import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, TYPES
from control_plane.xds.nodes import Node, TypeState
from control_plane.xds.snapshot import Snapshot

_COMPLETE = (LISTENER_TYPE, CLUSTER_TYPE)
WILDCARD = "*"
REFERRING = (LISTENER_TYPE, ROUTE_TYPE)
LEAVING = "+leaving"
"""Ends the version of clusters among which some are gone already and wait for the routes to leave them."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A NACK: Envoy's own message about a type."""

    type_url: str
    message: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A DiscoveryRequest. `error` is None for an ACK, Envoy's message for a NACK."""

    type_url: str
    nonce: str
    names: tuple[str, ...]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A DiscoveryResponse; `resources` are serialised. `names`: which of the snapshot's; None: all of them and no
    other, so that the encoded answer can be shared."""

    type_url: str
    version: str
    nonce: str
    resources: tuple[bytes, ...]
    names: frozenset[str] | None
    shared: bool
    """Whether each is the snapshot's own."""


@dataclass(slots=True)
class _Subscription:
    names: frozenset[str] = frozenset()
    everything: bool = True
    """Of listeners and clusters: no name was ever given, or "*" was."""
    nonce: str = ""
    version: str = ""
    acked: str = ""
    looked_at: str = ""
    """The snapshot's version that this client has, or would have if it had asked for anything that changed."""
    sent: dict[str, bytes] = field(default_factory=dict)
    """What the client holds of what it asked for."""
    owed: bool = False
    """Send although nothing changed: it asked anew, or the clusters that need it changed."""
    pending: bool = False
    """The last answer was neither acknowledged nor refused yet."""
    refused: bool = False


class AdsStream:
    """The state of one stream."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._subscriptions: dict[str, _Subscription] = {}
        self._nonces = 0

    def take(self, asked: Asked) -> Refusal | None:
        """Note what a request says; a refusal is returned. Types that we do not serve are remembered by nobody."""
        if asked.type_url not in TYPES:
            return None
        refusal = None
        subscription = self._subscriptions.get(asked.type_url)
        if subscription is None:
            subscription = self._subscriptions[asked.type_url] = _Subscription(owed=True)
        elif asked.nonce != subscription.nonce:
            return None
        else:
            refusal = self._record(asked, subscription)
        names = frozenset(asked.names)
        if names != subscription.names:
            subscription.owed |= bool(names - subscription.names)
            subscription.names, subscription.looked_at = names, ""
        subscription.everything = WILDCARD in names or (subscription.everything and not names)
        if asked.type_url not in _COMPLETE or not subscription.everything:
            subscription.sent = _only(subscription.sent, names)
        return refusal

    def answers(self, snapshot: Snapshot) -> list[Answer]:
        """What to send now, in the order in which Envoy must get it."""
        answers = []
        for type_url in TYPES:
            subscription = self._subscriptions.get(type_url)
            if subscription is None:
                continue
            if type_url in REFERRING and self._clusters_pending():
                break  # sent as soon as the clusters are acknowledged or refused
            if subscription.pending:
                continue
            answer = self._answer(type_url, subscription, snapshot)
            if answer is not None:
                answers.append(answer)
        return answers

    def settled(self, snapshot: Snapshot) -> bool:
        """Whether Envoy has acknowledged all of the snapshot that it asked for, and nothing else."""
        return bool(self._subscriptions) and all(
            one.looked_at == snapshot.versions[type_url] and not one.pending and not one.refused
            for type_url, one in self._subscriptions.items()
        )

    def _answer(self, type_url: str, subscription: _Subscription, snapshot: Snapshot) -> Answer | None:
        version = snapshot.versions[type_url]
        if subscription.looked_at == version and not subscription.owed:
            return None
        available = snapshot.resources[type_url]
        leaving: dict[str, bytes] = {}
        if type_url == CLUSTER_TYPE and not self._routes_taken(snapshot):
            leaving = {name: data for name, data in subscription.sent.items() if name not in available}
            version += LEAVING if leaving else ""
        whole = type_url in _COMPLETE and subscription.everything
        names = None if whole else subscription.names.intersection(available)
        wanted = {**available, **leaving} if names is None else {**_only(available, names), **leaving}
        changed = _differs(wanted, subscription.sent, exactly=type_url in _COMPLETE)
        if not leaving:
            subscription.looked_at = version
        if not wanted and not whole and not (type_url in _COMPLETE and subscription.sent):
            return None  # nothing of what was asked exists yet; RDS and EDS cannot say so
        if not changed and not subscription.owed:
            return None
        if type_url == CLUSTER_TYPE:
            self._mark_endpoints(subscription.sent, wanted)
        self._nonces += 1
        subscription.nonce, subscription.version = str(self._nonces), version
        subscription.sent, subscription.owed, subscription.pending = wanted, False, True
        self._state(type_url).sent = version
        return Answer(type_url, version, subscription.nonce, tuple(wanted.values()), names, not leaving)

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

    def _record(self, asked: Asked, subscription: _Subscription) -> Refusal | None:
        if not subscription.pending:
            return None  # only names changed; in particular no acknowledgement of what was refused before
        subscription.pending = False
        subscription.refused = asked.error is not None
        state = self._state(asked.type_url)
        if asked.error is not None:
            state.refused, state.message = subscription.version, asked.error
            return Refusal(asked.type_url, asked.error)
        subscription.acked = state.acked = subscription.version
        state.acked_at_s = time.time()
        state.refused = state.message = ""
        return None

    def _state(self, type_url: str) -> TypeState:
        return self.node.types.setdefault(type_url, TypeState())


def _only(resources: Mapping[str, bytes], names: frozenset[str]) -> dict[str, bytes]:
    return {name: resources[name] for name in sorted(names & resources.keys())}


def _differs(wanted: Mapping[str, bytes], sent: Mapping[str, bytes], *, exactly: bool) -> bool:
    """`exactly`: what was sent and is not wanted any more is a difference, too."""
    return wanted != sent if exactly else any(sent.get(name) != data for name, data in wanted.items())


def short_type(type_url: str) -> str:
    """`...listener.v3.Listener` -> `Listener`."""
    return type_url.rsplit(".", 1)[-1]
