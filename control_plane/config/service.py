"""Owns the configuration centre's servicer: what goes wrong becomes a gRPC status with a message for a person."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TypeAlias

import grpc
from google.protobuf import any_pb2
from google.protobuf.json_format import MessageToJson

from control_plane.config import config_pb2 as pb
from control_plane.config import config_pb2_grpc
from control_plane.config.centre import ConfigCentre, NotApplied, UnknownVersion
from control_plane.config.store import NONE, Applied, ConfigConflict
from control_plane.gateway import Gateway
from control_plane.resources.packed_types import load_packed_types
from control_plane.xds.ads_stream import short_type
from paymesh.server.admin_access import actor_of
from paymesh.server.policy_resource import Documents

MAX_TEXT = 1000
_DEFAULT_LIMIT, _MAX_LIMIT = 100, 10_000
Context: TypeAlias = grpc.aio.ServicerContext[pb.ApplyRequest, pb.ApplyResponse]


class ConfigService(config_pb2_grpc.ConfigCentreServicer):  # type: ignore[misc]
    """`paymesh.config.v1.ConfigCentre`. `centre` is None where the policy is a file that somebody edits."""

    def __init__(self, gateway: Gateway, centre: ConfigCentre | None) -> None:
        self._gateway = gateway
        self._centre = centre

    async def Apply(self, request: pb.ApplyRequest, context: Context) -> pb.ApplyResponse:  # noqa: N802
        centre = await self._here(context)
        actor = actor_of(request.actor)
        if len(request.reason) > MAX_TEXT or len(actor) > MAX_TEXT:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"reason and actor take {MAX_TEXT} characters")
        try:
            documents = await self._documents(request, centre)
            recorded, before = await centre.apply(
                documents, request.if_version, actor, request.reason, dry_run=request.dry_run
            )
        except (NotApplied, ValueError) as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except UnknownVersion as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except ConfigConflict as error:
            await context.abort(grpc.StatusCode.ABORTED, str(error))
        return pb.ApplyResponse(
            version="" if recorded is None else recorded.version,
            before=NONE if before is None else before.version,
            files_before=[] if before is None else _files(before.documents),
        )

    async def History(self, request: pb.HistoryRequest, context: Context) -> pb.HistoryResponse:  # noqa: N802
        centre = await self._here(context)
        limit = min(request.limit or _DEFAULT_LIMIT, _MAX_LIMIT)
        current = await centre.current()
        found = await centre.history(limit)
        return pb.HistoryResponse(versions=[_version(one, current) for one in found])

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.Version:  # noqa: N802
        centre = await self._here(context)
        current = await centre.current()
        try:
            found = current if not request.version else await centre.get(request.version)
        except UnknownVersion as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        if found is None:
            raise await _abort(context, grpc.StatusCode.NOT_FOUND, "nothing was applied yet")
        answer = _version(found, current)
        answer.files.extend(_files(found.documents))
        return answer

    async def Dump(self, request: pb.DumpRequest, context: Context) -> pb.DumpResponse:  # noqa: N802
        node = next((one for one in self._gateway.nodes if one.id == request.node), None)
        if node is None:
            known = ", ".join(sorted(one.id for one in self._gateway.nodes)) or "none"
            message = f"no node {request.node} is connected (known: {known})"
            raise await _abort(context, grpc.StatusCode.NOT_FOUND, message)
        generation = self._gateway.fleet.good(node)
        snapshot = None if generation is None else generation.snapshot(node)
        if snapshot is None:
            message = f"{request.node} has not acknowledged anything whole yet"
            raise await _abort(context, grpc.StatusCode.NOT_FOUND, message)
        await asyncio.to_thread(load_packed_types)
        # Certificates and keys are named by their files: there is no secret in here.
        return pb.DumpResponse(
            resources={
                short_type(type_url): _json(type_url, found.values())
                for type_url, found in snapshot.resources.items()
                if found
            },
            acknowledged=generation is self._gateway.fleet.generation(node),
        )

    async def _here(self, context: Context) -> ConfigCentre:
        if self._centre is None:
            raise await _abort(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                "this control plane follows policy files: it has a configuration centre with --config-centre",
            )
        return self._centre

    @staticmethod
    async def _documents(request: pb.ApplyRequest, centre: ConfigCentre) -> Documents:
        if request.from_version:
            return (await centre.get(request.from_version)).documents
        return tuple((file.name, file.text) for file in request.files)


async def _abort(context: Context, code: grpc.StatusCode, message: str) -> AssertionError:
    """Ends the call; the error that is returned is for the type checker, which does not know that."""
    await context.abort(code, message)
    return AssertionError("abort returned")


def _files(documents: Documents) -> list[pb.File]:
    return [pb.File(name=name, text=text) for name, text in documents]


def _version(one: Applied, current: Applied | None) -> pb.Version:
    return pb.Version(
        version=one.version,
        before=one.before,
        at=int(one.at_s),
        actor=one.actor,
        reason=one.reason,
        refused=one.refused or "",
        in_force=current is not None and current.number == one.number,
    )


def _json(type_url: str, resources: Iterable[bytes]) -> str:
    packed = (any_pb2.Any(type_url=type_url, value=data) for data in resources)
    items = (MessageToJson(one, preserving_proto_field_name=True) for one in packed)
    return f"[{','.join(items)}]"
