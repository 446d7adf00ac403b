"""The rules of one ADS stream, without a transport: who is answered what, and in which order."""

from __future__ import annotations

import hashlib

from control_plane.resources.names import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, SECRET_TYPE, TYPES
from control_plane.xds.ads_stream import AdsStream, Answer, Asked, short_type
from control_plane.xds.nodes import Node, TypeState
from control_plane.xds.snapshot import Snapshot


def snapshot(
    clusters: dict[str, bytes] | None = None,
    endpoints: dict[str, bytes] | None = None,
    routes: bytes = b"routes",
    listener: bytes = b"listener",
) -> Snapshot:
    resources = {
        CLUSTER_TYPE: {"a": b"cluster a", "b": b"cluster b"} if clusters is None else clusters,
        ENDPOINT_TYPE: {"a": b"endpoints a", "b": b"endpoints b"} if endpoints is None else endpoints,
        SECRET_TYPE: {},
        LISTENER_TYPE: {"paymesh": listener},
        ROUTE_TYPE: {"paymesh": routes},
    }
    versions = {kind: hashlib.sha256(repr(resources[kind]).encode()).hexdigest()[:8] for kind in TYPES}
    return Snapshot(resources, versions, {})


class Client:
    """An Envoy: keeps what it was sent, acknowledges when told to, and asks as Envoy does."""

    def __init__(self, now: Snapshot) -> None:
        self.now = now
        self.node = Node("gateway-1")
        self.stream = AdsStream(self.node)
        self.last: dict[str, Answer] = {}
        self.names: dict[str, tuple[str, ...]] = {}

    def ask(self, kind: str, *names: str, nonce: str | None = None, error: str | None = None) -> list[Answer]:
        if nonce is None:
            nonce = self.last[kind].nonce if kind in self.last else ""
        self.names[kind] = names
        self.refusal = self.stream.take(Asked(kind, nonce, names, error))
        return self._took(self.stream.answers(self.now))

    def ack(self, kind: str) -> list[Answer]:
        return self.ask(kind, *self.names[kind])

    def nack(self, kind: str, message: str = "no") -> list[Answer]:
        return self.ask(kind, *self.names[kind], error=message)

    def publish(self, now: Snapshot) -> list[Answer]:
        self.now = now
        return self._took(self.stream.answers(now))

    def start(self) -> None:
        """Everything asked, answered and acknowledged, in Envoy's order."""
        for kind, names in (
            (CLUSTER_TYPE, ()),
            (ENDPOINT_TYPE, tuple(self.now.resources[ENDPOINT_TYPE])),
            (LISTENER_TYPE, ()),
            (ROUTE_TYPE, ("paymesh",)),
        ):
            assert kinds(self.ask(kind, *names)) == [short_type(kind)]
            assert self.ack(kind) == []

    def state(self, kind: str) -> TypeState:
        return self.node.types[kind]

    def _took(self, answers: list[Answer]) -> list[Answer]:
        self.last |= {answer.type_url: answer for answer in answers}
        return answers


def kinds(answers: list[Answer]) -> list[str]:
    return [short_type(answer.type_url) for answer in answers]


# -- one type ----------------------------------------------------------------------------------------------------


def test_the_first_request_names_the_node_and_gets_the_complete_set() -> None:
    client = Client(snapshot())
    (answer,) = client.ask(CLUSTER_TYPE)
    assert answer.resources == (b"cluster a", b"cluster b")
    assert answer.version == client.now.versions[CLUSTER_TYPE]
    assert answer.nonce
    assert client.state(CLUSTER_TYPE).sent == answer.version
    assert client.state(CLUSTER_TYPE).acked == ""


def test_an_acknowledgement_is_recorded_and_not_answered() -> None:
    client = Client(snapshot())
    client.ask(CLUSTER_TYPE)
    assert client.ack(CLUSTER_TYPE) == []
    assert client.state(CLUSTER_TYPE).acked == client.now.versions[CLUSTER_TYPE]


def test_named_clusters_are_the_complete_set() -> None:
    """gRPC asks for clusters by name; Envoy for all."""
    client = Client(snapshot())
    (answer,) = client.ask(CLUSTER_TYPE, "b", "not there")
    assert answer.resources == (b"cluster b",)
    client.ack(CLUSTER_TYPE)
    assert client.publish(snapshot(clusters={"a": b"changed", "b": b"cluster b"})) == []
    (answer,) = client.ask(CLUSTER_TYPE, "*")
    assert answer.resources == (b"changed", b"cluster b")


def test_no_names_after_names_mean_nothing_and_not_everything() -> None:
    client = Client(snapshot())
    client.ask(LISTENER_TYPE, "paymesh")
    client.ack(LISTENER_TYPE)
    assert client.ask(LISTENER_TYPE) == []
    assert client.publish(snapshot(listener=b"changed")) == []


def test_an_empty_complete_set_is_answered_too() -> None:
    client = Client(snapshot(clusters={}, endpoints={}))
    (answer,) = client.ask(CLUSTER_TYPE)
    assert answer.resources == ()


def test_a_stale_nonce_gets_no_answer_and_records_nothing() -> None:
    client = Client(snapshot())
    client.start()
    old = client.last[ROUTE_TYPE].nonce
    client.publish(snapshot(routes=b"newer"))
    assert client.ask(ROUTE_TYPE, "paymesh", "other", nonce=old, error="about the old one") == []
    assert client.state(ROUTE_TYPE).refused == ""
    assert client.state(ROUTE_TYPE).acked == snapshot().versions[ROUTE_TYPE]


def test_nonces_belong_to_the_stream() -> None:
    first, second = Client(snapshot()), Client(snapshot())
    first.start()
    second.ask(CLUSTER_TYPE)
    nonces = [answer.nonce for answer in first.last.values()]
    assert len(set(nonces)) == len(nonces)
    assert second.ack(CLUSTER_TYPE) == []
    assert second.state(CLUSTER_TYPE).acked


def test_a_refusal_is_recorded_with_envoys_words_and_not_answered_again() -> None:
    client = Client(snapshot())
    client.start()
    good = client.now.versions[LISTENER_TYPE]
    assert kinds(client.publish(snapshot(listener=b"bad"))) == ["Listener"]
    assert client.nack(LISTENER_TYPE, "cannot bind") == []
    state = client.state(LISTENER_TYPE)
    assert (state.refused, state.message) == (client.now.versions[LISTENER_TYPE], "cannot bind")
    assert state.acked == good, "what it had before stays in force"
    assert client.publish(client.now) == []


def test_a_later_accepted_version_ends_the_refusal() -> None:
    client = Client(snapshot())
    client.start()
    client.publish(snapshot(listener=b"bad"))
    client.nack(LISTENER_TYPE)
    client.publish(snapshot(listener=b"good"))
    client.ack(LISTENER_TYPE)
    state = client.state(LISTENER_TYPE)
    assert (state.refused, state.message, state.acked) == ("", "", client.now.versions[LISTENER_TYPE])


def test_changed_names_after_a_refusal_do_not_acknowledge_what_was_refused() -> None:
    client = Client(snapshot())
    client.start()
    good = client.now.versions[ENDPOINT_TYPE]
    client.publish(snapshot(endpoints={"a": b"bad", "b": b"bad"}))
    client.nack(ENDPOINT_TYPE)
    client.ask(ENDPOINT_TYPE, "a")  # the same nonce, without error_detail: only names changed
    assert client.state(ENDPOINT_TYPE).acked == good
    assert client.state(ENDPOINT_TYPE).refused == client.now.versions[ENDPOINT_TYPE]


def test_other_types_are_neither_answered_nor_remembered() -> None:
    client = Client(snapshot())
    assert client.ask("type.googleapis.com/envoy.service.runtime.v3.Runtime", "x") == []
    assert client.node.types == {}


# -- by name -----------------------------------------------------------------------------------------------------


def test_routes_and_endpoints_are_answered_by_name() -> None:
    client = Client(snapshot())
    (answer,) = client.ask(ENDPOINT_TYPE, "b")
    assert answer.resources == (b"endpoints b",)


def test_names_that_do_not_exist_yet_are_remembered() -> None:
    client = Client(snapshot(clusters={}, endpoints={}))
    assert client.ask(ENDPOINT_TYPE, "a") == []
    (answer,) = client.publish(snapshot())
    assert answer.resources == (b"endpoints a",)


def test_newly_asked_names_are_answered_though_nothing_changed() -> None:
    client = Client(snapshot())
    client.ask(ENDPOINT_TYPE, "a")
    client.ack(ENDPOINT_TYPE)
    (answer,) = client.ask(ENDPOINT_TYPE, "a", "b")
    assert answer.resources == (b"endpoints a", b"endpoints b")
    client.ack(ENDPOINT_TYPE)
    assert client.ask(ENDPOINT_TYPE, "a") == [], "fewer names need no answer"
    assert kinds(client.ask(ENDPOINT_TYPE, "a", "b")) == ["ClusterLoadAssignment"], "asked for again"


def test_what_is_gone_is_no_change_of_what_is_asked_by_name() -> None:
    client = Client(snapshot())
    client.ask(ENDPOINT_TYPE, "a", "b")
    client.ack(ENDPOINT_TYPE)
    assert client.publish(snapshot(endpoints={"a": b"endpoints a"})) == []


# -- changes -----------------------------------------------------------------------------------------------------


def test_only_changed_types_are_pushed() -> None:
    client = Client(snapshot())
    client.start()
    assert kinds(client.publish(snapshot(routes=b"other weights"))) == ["RouteConfiguration"]
    client.ack(ROUTE_TYPE)
    endpoints = {"a": b"moved", "b": b"endpoints b"}
    assert kinds(client.publish(snapshot(endpoints=endpoints, routes=b"other weights"))) == ["ClusterLoadAssignment"]


def test_an_unchanged_snapshot_is_never_sent_again() -> None:
    client = Client(snapshot())
    client.start()
    assert client.publish(snapshot()) == []
    for kind in list(client.last):
        assert client.ack(kind) == []


def test_a_changed_cluster_needs_its_endpoints_again() -> None:
    client = Client(snapshot())
    client.start()
    answers = client.publish(snapshot(clusters={"a": b"cluster a, new timeout", "b": b"cluster b"}))
    assert kinds(answers) == ["Cluster", "ClusterLoadAssignment"]
    assert answers[1].resources == (b"endpoints a", b"endpoints b")


def test_a_cluster_that_left_and_came_back_needs_its_endpoints_again() -> None:
    """Envoy forgot them, and had no time to say that it unsubscribed."""
    client = Client(snapshot())
    client.start()
    client.publish(snapshot(clusters={"a": b"cluster a"}, endpoints={"a": b"endpoints a"}))
    client.ack(CLUSTER_TYPE)
    assert "ClusterLoadAssignment" in kinds(client.publish(snapshot()))


def test_a_new_cluster_is_followed_by_its_endpoints_once_asked() -> None:
    client = Client(snapshot(clusters={"a": b"cluster a"}, endpoints={"a": b"endpoints a"}))
    client.start()
    assert kinds(client.publish(snapshot())) == ["Cluster"]
    (answer,) = client.ask(ENDPOINT_TYPE, "a", "b")
    assert answer.resources == (b"endpoints a", b"endpoints b")


# -- make before break -------------------------------------------------------------------------------------------


def test_listeners_and_routes_wait_for_the_clusters_they_use() -> None:
    client = Client(snapshot())
    client.start()
    changed = snapshot(
        clusters={"a": b"changed", "b": b"cluster b", "c": b"cluster c"},
        endpoints={"a": b"endpoints a", "b": b"endpoints b", "c": b"endpoints c"},
        routes=b"to c",
        listener=b"changed",
    )
    assert kinds(client.publish(changed)) == ["Cluster", "ClusterLoadAssignment"]
    assert kinds(client.ask(ENDPOINT_TYPE, "a", "b", "c")) == ["ClusterLoadAssignment"]
    assert client.ack(ENDPOINT_TYPE) == [], "not warm yet"
    assert kinds(client.ack(CLUSTER_TYPE)) == ["Listener", "RouteConfiguration"]


def test_refused_clusters_do_not_hold_up_the_weights() -> None:
    client = Client(snapshot())
    client.start()
    client.publish(snapshot(clusters={"a": b"bad", "b": b"cluster b"}, routes=b"all to b"))
    assert kinds(client.nack(CLUSTER_TYPE)) == ["RouteConfiguration"]


def test_clusters_leave_after_the_routes_that_used_them() -> None:
    client = Client(snapshot())
    client.start()
    smaller = snapshot(clusters={"b": b"cluster b"}, endpoints={"b": b"endpoints b"}, routes=b"to b only")
    assert kinds(client.publish(smaller)) == ["RouteConfiguration"], "cluster a still has traffic"
    (answer,) = client.ack(ROUTE_TYPE)
    assert (answer.type_url, answer.resources) == (CLUSTER_TYPE, (b"cluster b",))
    assert client.ack(CLUSTER_TYPE) == []
    assert client.state(CLUSTER_TYPE).acked == smaller.versions[CLUSTER_TYPE]


def test_a_cluster_is_replaced_in_two_steps() -> None:
    client = Client(snapshot(clusters={"a": b"cluster a"}, endpoints={"a": b"endpoints a"}))
    client.start()
    after = snapshot(clusters={"b": b"cluster b"}, endpoints={"b": b"endpoints b"}, routes=b"to b")
    (both,) = client.publish(after)
    assert sorted(both.resources) == [b"cluster a", b"cluster b"]
    assert both.version != after.versions[CLUSTER_TYPE], "another content is another version"
    assert kinds(client.ack(CLUSTER_TYPE)) == ["RouteConfiguration"]
    (last,) = client.ack(ROUTE_TYPE)
    assert (last.version, last.resources) == (after.versions[CLUSTER_TYPE], (b"cluster b",))


def test_refused_routes_keep_the_clusters_that_the_old_ones_use() -> None:
    client = Client(snapshot())
    client.start()
    client.publish(snapshot(clusters={"b": b"cluster b"}, endpoints={"b": b"endpoints b"}, routes=b"bad"))
    assert client.nack(ROUTE_TYPE) == []
    assert client.last[CLUSTER_TYPE].resources == (b"cluster a", b"cluster b")


def test_a_request_that_meets_a_new_snapshot_gets_it_in_order() -> None:
    """The stream reads a request before it was woken for the change."""
    client = Client(snapshot())
    client.start()
    client.now = snapshot(clusters={"a": b"changed", "b": b"cluster b"}, routes=b"changed")
    assert kinds(client.ack(ROUTE_TYPE)) == ["Cluster", "ClusterLoadAssignment"]
    assert kinds(client.ack(CLUSTER_TYPE)) == ["RouteConfiguration"]


# -- streams -----------------------------------------------------------------------------------------------------


def test_a_new_stream_is_sent_everything_again() -> None:
    """Envoy reconnects with all types at once, clusters first; routes wait for them here too."""
    client = Client(snapshot())
    assert kinds(client.ask(CLUSTER_TYPE)) == ["Cluster"]
    assert kinds(client.ask(ENDPOINT_TYPE, "a", "b")) == ["ClusterLoadAssignment"]
    assert client.ask(LISTENER_TYPE) == []
    assert client.ask(ROUTE_TYPE, "paymesh") == []
    assert kinds(client.ack(CLUSTER_TYPE)) == ["Listener", "RouteConfiguration"]
