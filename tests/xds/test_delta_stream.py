"""The rules of one incremental ADS stream, without a transport: what is sent, what is named as gone, in which order."""

from __future__ import annotations

from control_plane.resources.names import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE
from control_plane.xds.ads_stream import short_type
from control_plane.xds.delta_stream import DeltaAnswer, DeltaAsked, DeltaStream
from control_plane.xds.nodes import Node
from control_plane.xds.snapshot import Snapshot
from tests.xds.test_ads_stream import snapshot


class Client:
    """An Envoy that speaks delta: holds what it was sent by name, and acknowledges when told to."""

    def __init__(self, now: Snapshot) -> None:
        self.now = now
        self.node = Node("gateway-1", delta=True)
        self.stream = DeltaStream(self.node)
        self.last: dict[str, DeltaAnswer] = {}
        self.held: dict[str, dict[str, str]] = {}

    def ask(
        self,
        kind: str,
        *names: str,
        nonce: str = "",
        without: tuple[str, ...] = (),
        initial: dict[str, str] | None = None,
        error: str | None = None,
    ) -> list[DeltaAnswer]:
        self.refusal = self.stream.take(DeltaAsked(kind, nonce, names, without, initial or {}, error))
        return self._took(self.stream.answers(self.now))

    def ack(self, kind: str) -> list[DeltaAnswer]:
        return self.ask(kind, nonce=self.last[kind].nonce)

    def nack(self, kind: str, message: str = "no") -> list[DeltaAnswer]:
        return self.ask(kind, nonce=self.last[kind].nonce, error=message)

    def publish(self, now: Snapshot) -> list[DeltaAnswer]:
        self.now = now
        return self._took(self.stream.answers(now))

    def start(self) -> None:
        for kind, names in (
            (CLUSTER_TYPE, ()),
            (ENDPOINT_TYPE, tuple(self.now.resources[ENDPOINT_TYPE])),
            (LISTENER_TYPE, ()),
            (ROUTE_TYPE, ("paymesh",)),
        ):
            assert kinds(self.ask(kind, *names)) == [short_type(kind)]
            assert self.ack(kind) == []

    def _took(self, answers: list[DeltaAnswer]) -> list[DeltaAnswer]:
        for answer in answers:
            held = self.held.setdefault(answer.type_url, {})
            held.update({one.name: one.version for one in answer.changed})
            for name in answer.removed:
                held.pop(name, None)
            self.last[answer.type_url] = answer
        return answers


def kinds(answers: list[DeltaAnswer]) -> list[str]:
    return [short_type(answer.type_url) for answer in answers]


def names(answer: DeltaAnswer) -> list[str]:
    return sorted(one.name for one in answer.changed)


def test_without_names_everything_comes_and_then_only_what_changed() -> None:
    client = Client(snapshot())
    (answer,) = client.ask(CLUSTER_TYPE)
    assert names(answer) == ["a", "b"]
    assert client.ack(CLUSTER_TYPE) == []
    (answer,) = client.publish(snapshot(clusters={"a": b"cluster a", "b": b"changed"}))
    assert [(one.name, one.data) for one in answer.changed] == [("b", b"changed")]


def test_an_empty_set_is_answered_at_first() -> None:
    client = Client(snapshot(clusters={}, endpoints={}))
    (answer,) = client.ask(CLUSTER_TYPE)
    assert (answer.changed, answer.removed) == ((), ())
    assert client.ack(CLUSTER_TYPE) == []


def test_a_missing_resource_is_named_once_and_sent_when_it_is_there() -> None:
    client = Client(snapshot(endpoints={"a": b"endpoints a"}))
    (answer,) = client.ask(ENDPOINT_TYPE, "a", "late")
    assert (names(answer), answer.removed) == (["a"], ("late",))
    assert client.ack(ENDPOINT_TYPE) == []
    assert client.publish(snapshot(endpoints={"a": b"endpoints a"}, routes=b"other")) == []
    (answer,) = client.publish(snapshot(endpoints={"a": b"endpoints a", "late": b"at last"}))
    assert (names(answer), answer.removed) == (["late"], ())


def test_what_is_gone_is_named() -> None:
    client = Client(snapshot())
    client.start()
    (answer,) = client.publish(snapshot(endpoints={"a": b"endpoints a"}))
    assert (answer.type_url, answer.changed, answer.removed) == (ENDPOINT_TYPE, (), ("b",))


def test_what_is_subscribed_again_is_sent_again() -> None:
    client = Client(snapshot())
    client.start()
    (answer,) = client.ask(ENDPOINT_TYPE, "a")
    assert names(answer) == ["a"]


def test_what_is_not_subscribed_any_more_is_not_sent() -> None:
    client = Client(snapshot())
    client.start()
    assert client.ask(ENDPOINT_TYPE, without=("a",)) == []
    (answer,) = client.publish(snapshot(endpoints={"a": b"moved", "b": b"moved"}))
    assert names(answer) == ["b"]


def test_subscriptions_count_on_a_stale_nonce_and_acknowledgements_do_not() -> None:
    client = Client(snapshot())
    client.ask(ENDPOINT_TYPE, "a")
    assert client.ask(ENDPOINT_TYPE, "b", nonce="another stream's", error="about something else") == [], "in flight"
    assert client.refusal is None
    (answer,) = client.ack(ENDPOINT_TYPE)
    assert names(answer) == ["b"]


def test_a_client_that_comes_back_is_sent_only_the_difference() -> None:
    now = snapshot(clusters={"a": b"cluster a", "b": b"changed"})
    old = snapshot().resource_versions(CLUSTER_TYPE)
    client = Client(now)
    (answer,) = client.ask(CLUSTER_TYPE, initial={**old, "gone": "1"})
    assert names(answer) == ["b"]
    assert answer.removed == ("gone",)


def test_a_client_that_comes_back_by_name_keeps_what_it_has() -> None:
    versions = snapshot().resource_versions(ENDPOINT_TYPE)
    client = Client(snapshot())
    assert client.ask(ENDPOINT_TYPE, "a", "b", initial=dict(versions)) == []
    (answer,) = client.publish(snapshot(endpoints={"a": b"moved", "b": b"endpoints b"}))
    assert names(answer) == ["a"]


def test_one_answer_is_in_flight_and_the_next_is_the_newest() -> None:
    client = Client(snapshot())
    client.start()
    client.publish(snapshot(routes=b"first"))
    assert client.publish(snapshot(routes=b"second")) == []
    assert client.publish(snapshot(routes=b"third")) == []
    (answer,) = client.ack(ROUTE_TYPE)
    assert [one.data for one in answer.changed] == [b"third"]


def test_a_refused_version_is_not_sent_again_and_the_one_before_is() -> None:
    client = Client(snapshot())
    client.start()
    good = client.now
    client.publish(snapshot(listener=b"bad"))
    assert client.nack(LISTENER_TYPE, "cannot bind") == []
    assert client.refusal is not None
    assert client.refusal.message == "cannot bind"
    assert client.publish(snapshot(listener=b"bad", routes=b"paymesh")) != [], "routes alone"
    assert "Listener" not in client.last[ROUTE_TYPE].type_url
    client.ack(ROUTE_TYPE)
    assert kinds(client.publish(good)) == ["Listener", "RouteConfiguration"], "it may have taken a part"


def test_only_what_was_acknowledged_is_settled() -> None:
    client = Client(snapshot())
    client.start()
    assert client.stream.settled(client.now)
    client.publish(snapshot(routes=b"other"))
    assert not client.stream.settled(client.now)
    client.nack(ROUTE_TYPE)
    assert not client.stream.settled(client.now)
    client.publish(snapshot(routes=b"good"))
    client.ack(ROUTE_TYPE)
    assert client.stream.settled(client.now)


def test_listeners_and_routes_wait_for_the_clusters_they_use() -> None:
    client = Client(snapshot())
    client.start()
    changed = snapshot(
        clusters={"a": b"cluster a", "b": b"cluster b", "c": b"cluster c"},
        endpoints={"a": b"endpoints a", "b": b"endpoints b", "c": b"endpoints c"},
        routes=b"to c",
        listener=b"changed",
    )
    assert kinds(client.publish(changed)) == ["Cluster"]
    assert kinds(client.ask(ENDPOINT_TYPE, "c")) == ["ClusterLoadAssignment"]
    assert client.ack(ENDPOINT_TYPE) == []
    assert kinds(client.ack(CLUSTER_TYPE)) == ["Listener", "RouteConfiguration"]


def test_a_changed_cluster_needs_its_endpoints_again() -> None:
    client = Client(snapshot())
    client.start()
    answers = client.publish(snapshot(clusters={"a": b"new timeout", "b": b"cluster b"}))
    assert kinds(answers) == ["Cluster", "ClusterLoadAssignment"]
    assert names(answers[1]) == ["a"]


def test_clusters_leave_after_the_routes_that_used_them() -> None:
    client = Client(snapshot())
    client.start()
    smaller = snapshot(clusters={"b": b"cluster b"}, endpoints={"b": b"endpoints b"}, routes=b"to b only")
    assert kinds(client.publish(smaller)) == ["RouteConfiguration"]
    answers = client.ack(ROUTE_TYPE)
    assert [(one.type_url, one.changed, one.removed) for one in answers] == [
        (CLUSTER_TYPE, (), ("a",)),
        (ENDPOINT_TYPE, (), ("a",)),
    ]
    client.ack(CLUSTER_TYPE)
    client.ack(ENDPOINT_TYPE)
    assert client.stream.settled(smaller)
    assert set(client.held[CLUSTER_TYPE]) == {"b"}
