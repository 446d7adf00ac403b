"""Owns who may do what over an admin port: tokens and client certificates, three roles, and which call needs which.

Refuses every call that the table does not name to all but admins, and an address that others can reach without a way to
tell who calls. Tokens are compared by their hashes, in constant time, and never logged.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import hashlib
import hmac
import ipaddress
import json
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from paymesh.server.admin_audit import AuditLog
from paymesh.server.startup import StartupError

_LOG = logging.getLogger(__name__)
_MAX_ASKED, _MAX_BEGINNING = 10_000, 2_000
"""Characters of one call in the audit log: nobody fills the disk with one."""


class Role(enum.IntEnum):
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


NEEDS: Mapping[str, Role] = {
    "/paymesh.admin.v1.Admin/Status": Role.VIEWER,
    "/paymesh.admin.v1.Admin/SetWeight": Role.OPERATOR,
    "/paymesh.config.v1.ConfigCentre/History": Role.VIEWER,
    "/paymesh.config.v1.ConfigCentre/Get": Role.VIEWER,
    "/paymesh.config.v1.ConfigCentre/Dump": Role.VIEWER,
    "/paymesh.config.v1.ConfigCentre/Apply": Role.ADMIN,
    "/paymesh.releases.v1.Releases/List": Role.VIEWER,
    "/paymesh.releases.v1.Releases/Get": Role.VIEWER,
    "/paymesh.releases.v1.Releases/History": Role.VIEWER,
    "/paymesh.releases.v1.Releases/Preview": Role.VIEWER,
    "/paymesh.releases.v1.Releases/Receipt": Role.VIEWER,
    "/paymesh.releases.v1.Releases/Apply": Role.OPERATOR,
    "/paymesh.releases.v1.Releases/Tell": Role.OPERATOR,
    "/paymesh.releases.v1.Releases/Drill": Role.OPERATOR,
    "/paymesh.limits.v1.Limits/Show": Role.VIEWER,
    "/paymesh.limits.v1.Limits/Set": Role.OPERATOR,
    "/paymesh.limits.v1.Limits/Unset": Role.OPERATOR,
    "/paymesh.audit.v1.Audit/List": Role.VIEWER,
}
"""What is not here is for admins."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who calls. `proven`: by a token or a certificate, not only by being on this machine."""

    name: str
    role: Role
    proven: bool


LOCAL = Person("", Role.ADMIN, proven=False)
"""Whoever is on this machine, where nobody has to prove anything."""
_CALLER: contextvars.ContextVar[Person] = contextvars.ContextVar("admin_caller", default=LOCAL)


def actor_of(told: str) -> str:
    """Who a change is recorded for: who was proven to call; only where nobody is, who the call says."""
    person = _CALLER.get()
    return person.name if person.proven else told.strip() or "unknown"


@dataclass(frozen=True, slots=True)
class Access:
    """Who is known. `tokens`: by the SHA-256 of a token, hex. `names`: by a name in a client certificate."""

    tokens: Mapping[str, Person]
    names: Mapping[str, Person]

    @property
    def everyone(self) -> bool:
        """Nobody has to prove anything."""
        return not self.tokens and not self.names


def read_access(file: Path | None) -> Access:
    """A line a person: `name role token SHA256-OF-THE-TOKEN` or `name role certificate NAME`; # begins a comment.
    Raises StartupError with file and line."""
    tokens: dict[str, Person] = {}
    names: dict[str, Person] = {}
    try:
        lines = [] if file is None else file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"{file}: {getattr(error, 'strerror', None) or 'is not UTF-8'}") from error
    for number, line in enumerate(lines, start=1):
        parts = line.split("#", 1)[0].split()
        if not parts:
            continue
        where = f"{file}:{number}"
        if len(parts) != 4 or parts[1].upper() not in Role.__members__ or parts[2] not in ("token", "certificate"):
            raise StartupError(f"{where}: not NAME viewer|operator|admin token SHA256 or NAME ROLE certificate NAME")
        person = Person(parts[0], Role[parts[1].upper()], proven=True)
        if parts[2] == "token" and not _is_sha256(parts[3]):
            raise StartupError(f"{where}: the SHA-256 of the token in 64 hex digits, never the token itself")
        into, key = (tokens, parts[3].lower()) if parts[2] == "token" else (names, parts[3])
        if key in into:
            raise StartupError(f"{where}: is there twice")
        into[key] = person
    if file is not None and not tokens and not names:
        raise StartupError(f"{file}: names nobody")
    return Access(tokens, names)


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(char in "0123456789abcdefABCDEF" for char in text)


def check_reachable(listen: str, access: Access) -> None:
    """Raises StartupError for an address that others can reach where nobody has to prove who they are."""
    if not access.everyone or listen.startswith("unix:"):
        return
    host = listen.rpartition(":")[0].strip("[]")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local:
        raise StartupError(f"{listen}: others reach the admin API there: --admin-access FILE says who may do what")


class AccessInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Asks who calls before a method is, and records what it changes. `audit`: None records nothing."""

    def __init__(self, access: Access, audit: AuditLog | None) -> None:
        self._access = access
        self._audit = audit

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Wraps unary methods. The admin ports have no others: one that came without a guard would be anyone's."""
        handler = await continuation(details)
        if handler is None:
            return handler
        if handler.unary_unary is None:
            return grpc.unary_unary_rpc_method_handler(_unguarded)
        inner, method = handler.unary_unary, str(details.method)
        needed = NEEDS.get(method, Role.ADMIN)

        async def guarded(request: Message, context: Any) -> Any:
            person = self._caller(context)
            if person is None:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the admin API asks for a token or a certificate")
            assert person is not None  # abort raises
            if person.role < needed:
                text = f"{person.name} is {person.role.name.lower()}; this needs {needed.name.lower()}"
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, text)
            token = _CALLER.set(person)
            try:
                if needed is Role.VIEWER or self._audit is None:
                    return await inner(request, context)
                return await self._audited(inner, request, context, person, method)
            finally:
                _CALLER.reset(token)

        return grpc.unary_unary_rpc_method_handler(guarded, handler.request_deserializer, handler.response_serializer)

    async def _audited(self, inner: Any, request: Message, context: Any, person: Person, method: str) -> Any:
        assert self._audit is not None  # asked before
        actor = actor_of(str(getattr(request, "actor", "")))
        try:
            number = await asyncio.to_thread(
                self._audit.begin, actor, person.role.name.lower(), method, _readable(request)
            )
        except sqlite3.Error as error:
            _LOG.error("not recorded, so not done", extra={"fields": {"method": method, "error": type(error).__name__}})
            await context.abort(grpc.StatusCode.UNAVAILABLE, "it cannot be recorded, so it is not done")
        answer, result = None, "INTERNAL"
        try:
            answer = await inner(request, context)
            result = "OK"
        except grpc.aio.AbortError:
            result = f"{_status(context.code())}: {context.details()}"
            raise
        except asyncio.CancelledError:
            result = "CANCELLED: the caller did not wait; it may have been done"
            raise
        finally:
            await asyncio.shield(
                asyncio.to_thread(self._audit.end, number, "" if answer is None else _readable(answer), result)
            )
        return answer

    def _caller(self, context: Any) -> Person | None:
        if self._access.everyone:
            return LOCAL
        shown = dict(context.invocation_metadata() or ()).get("authorization", "")
        if isinstance(shown, str) and shown.startswith("Bearer "):
            digest = hashlib.sha256(shown.removeprefix("Bearer ").encode("utf-8", "replace")).hexdigest()
            for known, person in self._access.tokens.items():
                if hmac.compare_digest(known, digest):
                    return person
        for name in context.auth_context().get("x509_subject_alternative_name", ()):
            found = self._access.names.get(name.decode("utf-8", "replace"))
            if found is not None:
                return found
        return None


async def _unguarded(_request: bytes, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "the admin API has no streams")


def _status(code: Any) -> str:
    return str(getattr(code, "name", code))


def _readable(message: Message) -> str:
    """As JSON; texts of files as their hashes, and of what is too long the beginning and the hash."""
    document = MessageToDict(message, preserving_proto_field_name=True)
    text = _compact(_without_texts(document))
    if len(text) <= _MAX_ASKED:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    short = {"characters": len(text), "sha256": digest, "beginning": text[:_MAX_BEGINNING]}
    if document.get("reason"):  # what a reader looks for first
        short["reason"] = document["reason"][:_MAX_BEGINNING]
    return _compact(short)


def _compact(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, sort_keys=True)


def _without_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: f"sha256:{hashlib.sha256(inner.encode()).hexdigest()}" if key == "text" else _without_texts(inner)
            for key, inner in value.items()
        }
    return [_without_texts(inner) for inner in value] if isinstance(value, list) else value
