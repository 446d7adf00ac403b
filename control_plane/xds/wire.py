"""Owns xDS messages as bytes and back. What many streams are sent alike is serialised once.

Serialised protobuf messages that are joined are one message of the fields of both (protobuf encoding, "Last One Wins"):
so an answer is its own few fields, and then the resources, which are the same for everyone.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2

from control_plane.xds.ads_stream import Answer, Asked
from control_plane.xds.delta_stream import DeltaAnswer, DeltaAsked
from control_plane.xds.nodes import GATEWAY, SIDECAR, Node
from control_plane.xds.snapshot import Snapshot


def read_node(first: discovery_pb2.DiscoveryRequest | discovery_pb2.DeltaDiscoveryRequest) -> Node:
    """Who sent a stream's first request."""
    told = {name: value.string_value for name, value in first.node.metadata.fields.items()}
    kind = SIDECAR if told.get("paymesh.kind") == SIDECAR else GATEWAY
    zone = told.get("paymesh.region") or first.node.locality.zone
    return Node(first.node.id, zone, kind, told.get("paymesh.application", ""))


def read_asked(message: discovery_pb2.DiscoveryRequest) -> Asked:
    return Asked(
        type_url=message.type_url,
        nonce=message.response_nonce,
        names=tuple(message.resource_names),
        error=message.error_detail.message if message.HasField("error_detail") else None,
    )


def read_delta_asked(message: discovery_pb2.DeltaDiscoveryRequest) -> DeltaAsked:
    return DeltaAsked(
        type_url=message.type_url,
        nonce=message.response_nonce,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        initial_versions=dict(message.initial_resource_versions),
        error=message.error_detail.message if message.HasField("error_detail") else None,
    )


def write_answer(answer: Answer, snapshot: Snapshot) -> bytes:
    """A DiscoveryResponse."""
    head = discovery_pb2.DiscoveryResponse(
        version_info=answer.version, type_url=answer.type_url, nonce=answer.nonce
    ).SerializeToString()
    if not answer.shared:
        return bytes(head) + _resources(answer.type_url, answer.resources)
    shared = snapshot.encoded(answer.type_url, answer.names, lambda: _resources(answer.type_url, answer.resources))
    return bytes(head) + shared


def write_delta_answer(answer: DeltaAnswer) -> bytes:
    """A DeltaDiscoveryResponse."""
    message = discovery_pb2.DeltaDiscoveryResponse(
        system_version_info=answer.version,
        type_url=answer.type_url,
        nonce=answer.nonce,
        removed_resources=answer.removed,
        resources=[
            discovery_pb2.Resource(
                name=one.name,
                version=one.version,
                resource=any_pb2.Any(type_url=answer.type_url, value=one.data),
            )
            for one in answer.changed
        ],
    )
    return bytes(message.SerializeToString())


def _resources(type_url: str, resources: Iterable[bytes]) -> bytes:
    message = discovery_pb2.DiscoveryResponse(
        resources=[any_pb2.Any(type_url=type_url, value=value) for value in resources]
    )
    return bytes(message.SerializeToString())
