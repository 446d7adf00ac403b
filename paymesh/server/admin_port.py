"""Owns a service's admin port: an address of its own, who may do what there, and what was done."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc

from paymesh.server import admin_audit_pb2 as pb
from paymesh.server import admin_audit_pb2_grpc
from paymesh.server.admin_access import Access, AccessInterceptor, check_reachable, read_access
from paymesh.server.admin_audit import AuditLog
from paymesh.server.binding import bind, new_server
from paymesh.server.startup import StartupError
from paymesh.server.tls import TlsOptions, tls_options

_DEFAULT_LIMIT, _MAX_LIMIT = 1000, 100_000


class AdminPort:
    """What the flags say. Made before the service starts, so that what is wrong with them keeps it from starting."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Raises StartupError."""
        self.listen: str | None = args.admin_listen
        self.access: Access = read_access(args.admin_access)
        self.tls: TlsOptions | None = tls_options(args.admin_tls_cert, args.admin_tls_key, args.admin_tls_client_ca)
        self.audit: Path | None = args.admin_audit
        if self.listen is not None:
            check_reachable(self.listen, self.access)
        if self.access.names and args.admin_tls_client_ca is None:
            raise StartupError("--admin-access names certificates: --admin-tls-client-ca says who issues them")

    @contextlib.asynccontextmanager
    async def serving(self, add: Callable[[grpc.aio.Server], None]) -> AsyncIterator[None]:
        """`add` adds the servicers. Raises StartupError."""
        if self.listen is None:
            yield
            return
        audit = None
        try:
            if self.audit is not None:
                audit = await asyncio.to_thread(AuditLog, self.audit)
        except (sqlite3.Error, OSError) as error:
            raise StartupError(f"{self.audit}: {error}") from error
        try:
            server = new_server([AccessInterceptor(self.access, audit)])
            add(server)
            admin_audit_pb2_grpc.add_AuditServicer_to_server(AuditService(audit), server)
            bind(server, self.listen, self.tls)
            await server.start()
            try:
                yield
            finally:
                await server.stop(grace=0.5)
        finally:
            if audit is not None:
                audit.close()


class AuditService(admin_audit_pb2_grpc.AuditServicer):  # type: ignore[misc]
    """`paymesh.audit.v1.Audit`."""

    def __init__(self, audit: AuditLog | None) -> None:
        self._audit = audit

    async def List(  # noqa: N802 - the method's name in the .proto
        self, request: pb.ListRequest, context: grpc.aio.ServicerContext[pb.ListRequest, pb.ListResponse]
    ) -> pb.ListResponse:
        if self._audit is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nothing is recorded here: --admin-audit FILE")
        assert self._audit is not None  # abort raises
        limit = min(request.limit or _DEFAULT_LIMIT, _MAX_LIMIT)
        found = await asyncio.to_thread(self._audit.entries, request.since, limit)
        broken = await asyncio.to_thread(self._audit.broken_at)
        return pb.ListResponse(
            entries=[
                pb.Entry(
                    number=one.number,
                    at=one.at_s,
                    actor=one.actor,
                    role=one.role,
                    method=one.method,
                    asked=one.asked,
                    answered=one.answered,
                    result=one.result,
                )
                for one in found
            ],
            intact=broken is None,
            broken_at=broken or 0,
        )


def add_admin_arguments(parser: argparse.ArgumentParser, default_listen: str | None = None) -> None:
    """The flags that `AdminPort` reads."""
    add = parser.add_argument
    none = "" if default_listen else " (default: none)"
    add("--admin-listen", default=default_listen, metavar="HOST:PORT", help=f"admin API{none}")
    add(
        "--admin-access",
        type=Path,
        metavar="FILE",
        help="who may do what over the admin API (default: anyone on this machine)",
    )
    add("--admin-tls-cert", type=Path, metavar="FILE", help="PEM: TLS on the admin API")
    add("--admin-tls-key", type=Path, metavar="FILE", help="PEM: its private key")
    add("--admin-tls-client-ca", type=Path, metavar="FILE", help="PEM: what issued operators' certificates (mTLS)")
    add("--admin-audit", type=Path, metavar="FILE", help="SQLite: every change that was asked for, and by whom")
