"""Owns one ADS stream, state of the world: what to answer to a request and what to push after a change.

Knows no transport: one message in, messages out. The rules are those of Envoy's xDS protocol documentation
("xDS REST and gRPC protocol") and of the quirks seen with Envoy 1.40:

- the node is in the first request only; nonces belong to the stream; a request with a stale nonce gets no answer;
- a NACK is `error_detail`, never a comparison of versions, and is not answered with the same version again;
- LDS and CDS are complete sets; RDS and EDS are answered by name, newly asked names even when nothing changed,
  and a name that does not exist yet is remembered;
- a changed cluster needs its endpoints again, even if they did not change;
- an unchanged set is never sent again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from control_plane.resources.names import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, TYPES
from control_plane.xds.nodes import Node, Nodes, TypeState
from control_plane.xds.snapshot import Snapshot

_COMPLETE = (LISTENER_TYPE, CLUSTER_TYPE)


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
    nonce: str = ""
    version: str = ""
    sent: dict[str, bytes] = field(default_factory=dict)
    """What the client holds of what it asked for."""
    stale: bool = False
    """Send again although nothing changed: the clusters that need it did."""


class AdsStream:
    """The state of one stream. `close()` when it ended."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._node: Node | None = None
        self._subscriptions: dict[str, _Subscription] = {}
        self._nonces = 0

    def on_request(self, asked: Asked, snapshot: Snapshot) -> list[Answer]:
        """What to answer: nothing, or one response. Unknown types get none and are remembered by nobody."""
        if self._node is None:
            self._node = Node(asked.node_id)
            self._nodes.add(self._node)
        if asked.type_url not in TYPES:
            return []
        subscription = self._subscriptions.get(asked.type_url)
        if subscription is None:
            subscription = self._subscriptions[asked.type_url] = _Subscription()
        elif asked.nonce != subscription.nonce:
            return []
        else:
            self._record(asked, subscription)
        names = frozenset(asked.names)
        new = names - subscription.names
        subscription.names = names
        answer = self._answer(asked.type_url, subscription, snapshot, bool(new))
        return [] if answer is None else [answer]

    def on_snapshot(self, snapshot: Snapshot) -> list[Answer]:
        """What to push after a change, in the order in which Envoy must get it."""
        answers = []
        for type_url in TYPES:
            subscription = self._subscriptions.get(type_url)
            if subscription is not None:
                answer = self._answer(type_url, subscription, snapshot, False)
                if answer is not None:
                    answers.append(answer)
        return answers

    def close(self) -> None:
        if self._node is not None:
            self._nodes.remove(self._node)

    def _answer(
        self, type_url: str, subscription: _Subscription, snapshot: Snapshot, asked_anew: bool
    ) -> Answer | None:
        resources = snapshot.resources[type_url]
        if type_url in _COMPLETE:
            wanted = dict(resources)
        else:
            wanted = {name: resources[name] for name in sorted(subscription.names) if name in resources}
        first = not subscription.nonce and type_url in _COMPLETE
        if wanted == subscription.sent and not (first or asked_anew or subscription.stale):
            return None
        if not wanted and type_url not in _COMPLETE:
            return None  # nothing of what was asked exists yet; RDS and EDS cannot say so
        if type_url == CLUSTER_TYPE:
            self._mark_endpoints(subscription.sent, wanted)
        self._nonces += 1
        subscription.nonce = str(self._nonces)
        subscription.version = snapshot.versions[type_url]
        subscription.sent, subscription.stale = wanted, False
        self._state(type_url).sent = subscription.version
        return Answer(type_url, subscription.version, subscription.nonce, tuple(wanted.values()))

    def _mark_endpoints(self, before: dict[str, bytes], after: dict[str, bytes]) -> None:
        endpoints = self._subscriptions.get(ENDPOINT_TYPE)
        if endpoints is not None and any(name in before and before[name] != after[name] for name in after):
            endpoints.stale = True

    def _record(self, asked: Asked, subscription: _Subscription) -> None:
        state = self._state(asked.type_url)
        if asked.error is not None:
            state.refused, state.message = subscription.version, asked.error
        elif subscription.version:
            state.acked, state.acked_at_s = subscription.version, time.time()
            state.refused = state.message = ""

    def _state(self, type_url: str) -> TypeState:
        assert self._node is not None
        return self._node.types.setdefault(type_url, TypeState())


def short_type(type_url: str) -> str:
    """`...listener.v3.Listener` -> `Listener`."""
    return type_url.rsplit(".", 1)[-1]
