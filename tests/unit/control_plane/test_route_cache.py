"""Routes are built once, and again when something that they were built from changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from envoy.config.route.v3 import route_components_pb2
from hypothesis import given
from hypothesis import strategies as st

from control_plane.resources.joined import repeated
from control_plane.resources.route_cache import RouteCache
from control_plane.resources.routes import build_routes
from control_plane.weights import effective_weights
from paymesh.payments.policy.compiled import Policy, Route
from paymesh.payments.policy.load import load_policy
from paymesh.payments.releases.traffic import Traffic

TESTDATA = Path(__file__).parents[2] / "golden" / "testdata"


def policy(name: str) -> Policy:
    return load_policy([TESTDATA / f"{name}.yaml"], {"GOLDEN_SECRET": "0123456789abcdef0123456789abcdef"})


def splits_of(found: Policy) -> dict[str, Traffic]:
    return {name: Traffic(split) for name, split in effective_weights(found, {}).items()}


class Builder:
    def __init__(self) -> None:
        self.built: list[str] = []

    def __call__(self, route: Route, splits: Mapping[str, Traffic]) -> Iterable[bytes]:
        self.built.append(route.name)
        if route.service is not None:
            yield f"{route.name} {dict(splits[route.service].weights)}".encode()


def test_only_what_changed_is_built_again() -> None:
    found = policy("three_versions")
    splits, cache, builder = splits_of(found), RouteCache(), Builder()
    first = cache.build(found.routes, splits, builder)
    assert sorted(builder.built) == sorted(route.name for route in found.routes)
    builder.built.clear()
    assert cache.build(found.routes, splits, builder) == first
    assert builder.built == []

    changed = dataclasses.replace(found.routes[0], timeout_ms=found.routes[0].timeout_ms + 1)
    cache.build((changed, *found.routes[1:]), splits, builder)
    assert builder.built == [changed.name]
    builder.built.clear()

    service = next(route.service for route in found.routes if route.service is not None)
    names = list(splits[service].weights)
    splits[service] = Traffic({name: 10_000 if name == names[0] else 0 for name in names})
    parts = cache.build((changed, *found.routes[1:]), splits, builder)
    assert set(builder.built) == {route.name for route in found.routes if route.service == service}
    assert any(b"10000" in part for part in parts)


def test_with_and_without_the_cache_the_bytes_are_the_same() -> None:
    for name in ("demo", "matches", "three_versions"):
        found, cache = policy(name), RouteCache()
        splits = splits_of(found)
        plain = build_routes(found, splits)
        assert build_routes(found, splits, cache) == plain
        assert build_routes(found, splits, cache) == plain


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 200))
def test_joined_messages_are_parsed_as_they_would_be_built(parts: list[bytes], padding: int) -> None:
    routes = [route_components_pb2.Route(name="x" * padding, request_headers_to_remove=[part.hex()]) for part in parts]
    host = route_components_pb2.VirtualHost(name="all", domains=["*"])
    joined = host.SerializeToString() + repeated(3, [route.SerializeToString() for route in routes])
    assert list(route_components_pb2.VirtualHost.FromString(joined).routes) == routes
