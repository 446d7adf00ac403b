"""Owns the admin API's servicer: errors of the domain become gRPC statuses with a message for a person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager

import grpc

from control_plane.admin import admin_pb2, admin_pb2_grpc
from control_plane.discovery.follow import Discovery
from control_plane.gateway import Gateway, UnknownService
from control_plane.policy_distribution import Subscriber
from control_plane.releases.store import ReleaseConflict
from control_plane.weights import InvalidWeights
from control_plane.xds.ads_stream import short_type
from control_plane.xds.nodes import Node
from paymesh.payments.policy.source import PolicySource
from paymesh.server.admin_access import actor_of

MAX_TEXT = 1000
"""Characters of a reason or an actor."""
NothingMoves = Callable[[str], AbstractAsyncContextManager[None]]
"""Meanwhile no release of this service begins. Raises ReleaseConflict while one is under way."""


class Admin(admin_pb2_grpc.AdminServicer):  # type: ignore[misc]
    """`paymesh.admin.v1.Admin`."""

    def __init__(
        self,
        gateway: Gateway,
        source: PolicySource,
        discovery: Discovery,
        nothing_moves: NothingMoves,
        distribution: Iterable[Subscriber] = (),
    ) -> None:
        self._nothing_moves = nothing_moves
        self._distribution = distribution
        self._gateway = gateway
        self._discovery = discovery
        self._source = source

    async def SetWeight(  # noqa: N802 - the method's name in the .proto
        self,
        request: admin_pb2.SetWeightRequest,
        context: grpc.aio.ServicerContext[admin_pb2.SetWeightRequest, admin_pb2.SetWeightResponse],
    ) -> admin_pb2.SetWeightResponse:
        actor = actor_of(request.actor)
        if len(request.reason) > MAX_TEXT or len(actor) > MAX_TEXT:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"reason and actor take {MAX_TEXT} characters")
        try:
            async with self._nothing_moves(request.service):
                change = await self._gateway.set_weights(request.service, dict(request.weights), actor, request.reason)
        except ReleaseConflict as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except UnknownService:
            known = ", ".join(sorted(self._gateway.policy.services)) or "none"
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service} (known: {known})")
        except InvalidWeights as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return admin_pb2.SetWeightResponse(before=_weights(change.before), after=_weights(change.after))

    async def Status(  # noqa: N802
        self,
        _request: admin_pb2.StatusRequest,
        _context: grpc.aio.ServicerContext[admin_pb2.StatusRequest, admin_pb2.StatusResponse],
    ) -> admin_pb2.StatusResponse:
        return admin_pb2.StatusResponse(
            policy_version=self._gateway.policy.version,
            policy_problems=[str(problem) for problem in self._source.last_problems],
            nodes=[_node(node, self._gateway.fleet.held(node)) for node in self._gateway.nodes],
            services=[self._service(name, split) for name, split in self._gateway.weights.items()],
            rolled_back=str(self._gateway.rolled_back or ""),
            discovery_problems=dict(self._discovery.problems),
            subscribers=[
                admin_pb2.SubscriberStatus(
                    id=one.id, sent_version=one.sent, acked_version=one.acked, nack_message=one.message
                )
                for one in self._distribution
            ],
        )

    def _service(self, name: str, split: Mapping[str, int]) -> admin_pb2.ServiceStatus:
        actual = self._gateway.actual_weights(name)
        return admin_pb2.ServiceStatus(
            service=name,
            versions=[
                admin_pb2.VersionStatus(
                    version=version, set_weight=weight, actual_weight=None if actual is None else actual.get(version)
                )
                for version, weight in split.items()
            ],
        )


def _weights(split: Mapping[str, int]) -> list[admin_pb2.VersionWeight]:
    return [admin_pb2.VersionWeight(version=version, weight=weight) for version, weight in split.items()]


def _node(node: Node, held: str) -> admin_pb2.NodeStatus:
    return admin_pb2.NodeStatus(
        id=node.id,
        held=held,
        delta=node.delta,
        zone=node.zone,
        kind=node.kind,
        problem=node.problem,
        connected_at=int(node.connected_at_s),
        types=[
            admin_pb2.TypeStatus(
                type=short_type(type_url),
                sent_version=state.sent,
                acked_version=state.acked,
                nacked_version=state.refused,
                nack_message=state.message,
            )
            for type_url, state in node.types.items()
        ],
    )
