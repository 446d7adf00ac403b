"""Owns what a golden test starts from: a policy of testdata, built, and parsed again with the compiled stubs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from control_plane.resources.names import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, SECRET_TYPE
from control_plane.resources.packed_types import load_packed_types
from control_plane.settings import GatewaySettings
from control_plane.weights import effective_weights
from control_plane.xds.snapshot import build_snapshot
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy

SETTINGS = GatewaySettings(
    ("127.0.0.1", 8080),
    (("127.0.0.1", 9001),),
    (("127.0.0.1", 9002),),
    "/dev/stdout",
    health_events="/var/log/paymesh/health.json",
)
ENVIRON = {"GOLDEN_SECRET": "0123456789abcdef0123456789abcdef"}
load_packed_types()
_MESSAGES = {
    "listeners": (LISTENER_TYPE, listener_pb2.Listener),
    "routes": (ROUTE_TYPE, route_pb2.RouteConfiguration),
    "clusters": (CLUSTER_TYPE, cluster_pb2.Cluster),
    "secrets": (SECRET_TYPE, secret_pb2.Secret),
    "endpoints": (ENDPOINT_TYPE, endpoint_pb2.ClusterLoadAssignment),
}


@dataclass(frozen=True)
class Built:
    """A policy and what Envoy gets of it, as plain values by section and name."""

    policy: Policy
    resources: dict[str, dict[str, Any]]


def _build(file: Path) -> Built:
    policy = load_policy([file], ENVIRON)
    snapshot = build_snapshot(policy, effective_weights(policy, {}), SETTINGS)
    resources = {}
    for section, (type_url, message) in _MESSAGES.items():
        resources[section] = {
            name: _readable(message.FromString(data)) for name, data in snapshot.resources[type_url].items()
        }
    return Built(policy, resources)


def _readable(message: Message) -> Any:
    for part in _parts(message):
        assert len(UnknownFieldSet(part)) == 0, f"{type(part).__name__} would lose fields"
    return _ordered(MessageToDict(message, preserving_proto_field_name=True))


def _ordered(value: Any) -> Any:
    """Plain dicts, their names first and the rest sorted: maps have no order of their own."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (key not in ("@type", "name"), key))
        return {key: _ordered(value[key]) for key in keys}
    return [_ordered(item) for item in value] if isinstance(value, list) else value


def _parts(message: Message) -> Iterator[Message]:
    yield message
    if isinstance(message, any_pb2.Any):
        found = descriptor_pool.Default().FindMessageTypeByName(message.TypeName())
        yield from _parts(message_factory.GetMessageClass(found).FromString(message.value))
        return
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        if not field.is_repeated:
            yield from _parts(value)
        elif field.message_type.GetOptions().map_entry:
            for item in value.values():
                if isinstance(item, Message):
                    yield from _parts(item)
        else:
            for item in value:
                yield from _parts(item)


@pytest.fixture(scope="session")
def build() -> Callable[[Path], Built]:
    """A policy file -> what is built of it."""
    return _build
