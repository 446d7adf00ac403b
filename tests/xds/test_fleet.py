"""Who gets a new generation when, who is held back by its own refusal, and when all go back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from control_plane.resources.names import LISTENER_TYPE
from control_plane.xds.ads_stream import Refusal
from control_plane.xds.fleet import FIRST_ALONE_S, Fleet, RolledBack
from control_plane.xds.generation import Generation
from control_plane.xds.nodes import Node
from tests.xds.test_ads_stream import snapshot

NO = Refusal(LISTENER_TYPE, "cannot bind")


def generation(name: str = "good") -> Generation:
    found = snapshot(routes=name.encode())
    return Generation(None, found, frozenset(), lambda _: found)


class Rig:
    """A fleet with nodes that answer when told to, and a clock that stands still."""

    def __init__(self, *names: str) -> None:
        self.now = 0.0
        self.back: list[tuple[RolledBack, Generation]] = []
        self.good: list[Generation] = []
        self.base = generation("base")
        self.fleet = Fleet(
            self.base, lambda why, to: self.back.append((why, to)), self.good.append, clock=lambda: self.now
        )
        self.nodes = {name: Node(name) for name in names}
        self.stack = contextlib.ExitStack()
        for node in self.nodes.values():
            self.stack.enter_context(self.fleet.connected(node))
            self.fleet.settled(node, self.base)

    def gets(self, name: str) -> Generation:
        return self.fleet.generation(self.nodes[name])

    def accepts(self, *names: str) -> None:
        for name in names:
            self.fleet.settled(self.nodes[name], self.gets(name))

    def refuses(self, name: str) -> None:
        self.fleet.refused(self.nodes[name], self.gets(name), NO)

    def publish(self, name: str) -> Generation:
        found = generation(name)
        self.fleet.publish(found)
        return found


@pytest.fixture
def rig() -> Iterator[Rig]:
    built = Rig("a", "b", "c")
    yield built
    built.stack.close()


def test_one_node_has_it_first_and_the_rest_when_it_agrees(rig: Rig) -> None:
    new = rig.publish("new")
    assert [rig.gets(name) is new for name in "abc"] == [True, False, False]
    rig.accepts("a")
    assert [rig.gets(name) is new for name in "abc"] == [True, True, True]


def test_a_newer_one_takes_the_place_of_the_one_that_waits(rig: Rig) -> None:
    rig.publish("first")
    second = rig.publish("second")
    assert rig.gets("a") is second
    assert rig.gets("b") is rig.base
    rig.accepts("a")
    assert rig.gets("b") is second


def test_a_silent_first_node_is_waited_for_two_seconds_and_is_not_first_again(rig: Rig) -> None:
    new = rig.publish("new")
    rig.now = FIRST_ALONE_S - 0.01
    rig.fleet.tick()
    assert rig.gets("b") is rig.base
    rig.now = FIRST_ALONE_S
    rig.fleet.tick()
    assert rig.gets("b") is new
    newer = rig.publish("newer")
    assert [rig.gets(name) is newer for name in "abc"] == [False, True, False]
    rig.accepts("a")
    assert rig.gets("c") is not newer, "a is not the first one"


def test_a_node_that_refuses_is_held_on_its_last_good_one_while_the_others_go_on(rig: Rig) -> None:
    new = rig.publish("new")
    rig.refuses("a")
    assert rig.gets("a") is rig.base
    assert rig.fleet.held(rig.nodes["a"]) == "Listener: cannot bind"
    assert rig.gets("b") is new, "the next one tries it"
    rig.accepts("b")
    assert rig.gets("c") is new
    rig.accepts("c")
    assert rig.gets("a") is rig.base
    assert rig.good == [rig.base, new]
    assert rig.back == []
    newer = rig.publish("newer")
    assert not rig.fleet.held(rig.nodes["a"]), "it may take the next one"
    rig.accepts("a")
    assert rig.gets("b") is newer


def test_most_of_those_that_answered_refuse_it_and_all_go_back(rig: Rig) -> None:
    bad = rig.publish("bad")
    rig.refuses("a")
    rig.refuses("b")
    assert [rig.gets(name) for name in "abc"] == [rig.base] * 3
    ((why, to),) = rig.back
    assert to is rig.base
    assert str(why) == "2 of 2 nodes refused it; b, Listener: cannot bind"
    assert rig.fleet.newest is rig.base
    assert bad not in rig.good


def test_a_refusal_that_comes_late_counts_too(rig: Rig) -> None:
    rig.publish("bad")
    rig.accepts("a")
    rig.refuses("b")
    assert rig.back == [], "one of two"
    rig.refuses("c")
    assert len(rig.back) == 1


def test_the_only_node_decides_alone() -> None:
    rig = Rig("a")
    rig.publish("bad")
    rig.refuses("a")
    assert rig.gets("a") is rig.base
    assert len(rig.back) == 1


def test_the_first_ever_refused_has_nothing_to_go_back_to() -> None:
    fleet = Fleet(generation())
    node = Node("a")
    with fleet.connected(node):
        fleet.refused(node, fleet.generation(node), NO)
        assert fleet.generation(node) is fleet.newest


def test_what_an_earlier_process_left_is_gone_back_to() -> None:
    left = generation("left")
    fleet = Fleet(generation("bad"), before=left)
    node = Node("a")
    with fleet.connected(node):
        fleet.refused(node, fleet.generation(node), NO)
        assert fleet.generation(node) is left


def test_without_nodes_it_is_for_whoever_comes() -> None:
    fleet = Fleet(generation())
    new = generation("new")
    fleet.publish(new)
    node = Node("a")
    with fleet.connected(node):
        assert fleet.generation(node) is new
    assert len(fleet.nodes) == 0


def test_a_first_node_that_leaves_is_replaced() -> None:
    rig = Rig("a", "b")
    leaving = Node("leaving")
    fleet = Fleet(rig.base)
    with contextlib.ExitStack() as stays:
        with fleet.connected(leaving):
            fleet.settled(leaving, rig.base)
            stays.enter_context(fleet.connected(rig.nodes["b"]))
            fleet.settled(rig.nodes["b"], rig.base)
            new = generation("new")
            fleet.publish(new)
            assert fleet.generation(rig.nodes["b"]) is rig.base
        assert fleet.generation(rig.nodes["b"]) is new


def test_whoever_waits_is_woken(rig: Rig) -> None:
    with rig.fleet.changes() as changed:
        rig.publish("new")
        assert changed.is_set()
        changed.clear()
        rig.accepts("a")
        assert changed.is_set()
