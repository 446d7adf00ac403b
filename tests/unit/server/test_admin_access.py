"""Who may do what over an admin port, and that it is all recorded: a real port, tokens, certificates."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import socket
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from control_plane.admin import admin_pb2, admin_pb2_grpc
from control_plane.config import config_pb2
from control_plane.releases import releases_pb2
from ext_authz.admin import limits_pb2
from paymesh.cli.main import main
from paymesh.server import admin_audit_pb2 as audit_pb
from paymesh.server import admin_audit_pb2_grpc
from paymesh.server.admin_access import NEEDS, Role, actor_of, check_reachable, read_access
from paymesh.server.admin_audit import AuditLog
from paymesh.server.admin_port import AdminPort, add_admin_arguments
from paymesh.server.startup import StartupError
from tests.data_plane.certificates import Issuer, build, write

TOKENS = {"ann": "token of ann, the admin", "oskar": "token of oskar", "vera": "token of vera"}


class Recording(admin_pb2_grpc.AdminServicer):  # type: ignore[misc]
    """An admin API that tells who it was called by."""

    async def SetWeight(self, request: admin_pb2.SetWeightRequest, context: Any) -> admin_pb2.SetWeightResponse:  # noqa: N802
        if request.service == "nobody":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no service nobody")
        if request.service == "slow":
            await asyncio.sleep(60)
        weight = admin_pb2.VersionWeight(version=actor_of(request.actor), weight=1)
        return admin_pb2.SetWeightResponse(after=[weight])

    async def Status(self, _request: Any, _context: Any) -> admin_pb2.StatusResponse:  # noqa: N802
        return admin_pb2.StatusResponse()


def access_file(folder: Path) -> Path:
    file = folder / "access"
    roles = {"ann": "admin", "oskar": "operator", "vera": "viewer"}
    lines = [f"{name} {roles[name]} token {hashlib.sha256(text.encode()).hexdigest()}" for name, text in TOKENS.items()]
    file.write_text("# who may do what\n" + "\n".join(lines) + "\n")
    return file


def port_of(*flags: str) -> AdminPort:
    parser = argparse.ArgumentParser()
    add_admin_arguments(parser)
    return AdminPort(parser.parse_args(["--admin-listen", "127.0.0.1:0", *flags]))


@contextlib.asynccontextmanager
async def serving(port: AdminPort) -> AsyncIterator[str]:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port.listen = f"127.0.0.1:{probe.getsockname()[1]}"
    async with port.serving(lambda server: admin_pb2_grpc.add_AdminServicer_to_server(Recording(), server)):
        yield port.listen


async def set_weight(
    address: str, token: str | None = None, service: str = "trade", actor: str = "eve", timeout_s: float = 10
) -> str:
    async with grpc.aio.insecure_channel(address) as channel:
        request = admin_pb2.SetWeightRequest(service=service, weights={"v1": 10_000}, reason="why", actor=actor)
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        answer = await admin_pb2_grpc.AdminStub(channel).SetWeight(request, metadata=metadata, timeout=timeout_s)
        return str(answer.after[0].version)


async def status(address: str, token: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        metadata = (("authorization", f"Bearer {token}"),)
        await admin_pb2_grpc.AdminStub(channel).Status(admin_pb2.StatusRequest(), metadata=metadata, timeout=10)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), str(error.value.details())


# -- tokens --------------------------------------------------------------------------------------------------------


async def test_a_token_says_who_calls_and_what_they_may(tmp_path: Path) -> None:
    async with serving(port_of("--admin-access", str(access_file(tmp_path)))) as address:
        assert await set_weight(address, TOKENS["oskar"]) == "oskar", "not who the call says"
        assert await set_weight(address, TOKENS["ann"]) == "ann"
        await status(address, TOKENS["vera"])
        code, said = await refused(set_weight(address, TOKENS["vera"]))
        assert (code, said) == (grpc.StatusCode.PERMISSION_DENIED, "vera is viewer; this needs operator")
        for token in (None, "", "token of ann", TOKENS["ann"] + " "):
            code, said = await refused(set_weight(address, token))
            assert code is grpc.StatusCode.UNAUTHENTICATED
            assert "token of" not in said


async def test_on_this_machine_without_access_file_the_call_says_who(tmp_path: Path) -> None:
    async with serving(port_of()) as address:
        assert await set_weight(address) == "eve"
        assert await set_weight(address, actor=" ") == "unknown"


def test_every_method_has_a_role_and_changes_need_more_than_looking() -> None:
    methods = {
        f"/{service.full_name}/{method.name}"
        for module in (admin_pb2, audit_pb, config_pb2, limits_pb2, releases_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert methods == set(NEEDS)
    changing = ("SetWeight", "Apply", "Set", "Unset", "Tell", "Drill")
    assert {name for name, role in NEEDS.items() if role > Role.VIEWER} == {
        name for name in methods if name.rpartition("/")[2] in changing
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ann admin token secret", "access:1: the SHA-256 of the token in 64 hex digits, never the token itself"),
        ("\nann king token " + "0" * 64, "access:2: not NAME viewer|operator|admin token SHA256"),
        ("ann admin", "access:1: not NAME"),
        ("# nobody\n", "access: names nobody"),
        (f"a admin token {'0' * 64}\nb viewer token {'0' * 64}", "access:2: is there twice"),
    ],
)
def test_a_bad_access_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "access").write_text(text)
    with pytest.raises(StartupError) as raised:
        read_access(tmp_path / "access")
    assert message in str(raised.value)
    assert "secret" not in str(raised.value)


def test_an_address_that_others_reach_needs_to_know_who_calls(tmp_path: Path) -> None:
    everyone, known = read_access(None), read_access(access_file(tmp_path))
    for listen in ("127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/run/admin"):
        check_reachable(listen, everyone)
    for listen in ("0.0.0.0:1", "10.0.0.1:1", "[::]:1"):
        with pytest.raises(StartupError, match="--admin-access"):
            check_reachable(listen, everyone)
        check_reachable(listen, known)


# -- certificates --------------------------------------------------------------------------------------------------


async def test_a_certificate_says_who_calls(tmp_path: Path) -> None:
    keys = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(4)]
    authority = Issuer(keys[0], build("authority", keys[0], None))
    ca, _ = write(tmp_path, "ca", keys[0], authority.certificate)
    certificate, key = write(
        tmp_path, "server", keys[1], build("server", keys[1], authority, x509.DNSName("admin.internal"))
    )
    for name, number in (("ann", 2), ("stranger", 3)):
        uri = x509.UniformResourceIdentifier(f"spiffe://people/{name}")
        write(tmp_path, name, keys[number], build(name, keys[number], authority, uri))
    access = tmp_path / "access"
    access.write_text("ann operator certificate spiffe://people/ann\n")
    tls = ("--admin-tls-cert", str(certificate), "--admin-tls-key", str(key), "--admin-tls-client-ca", str(ca))
    with pytest.raises(StartupError, match="--admin-tls-client-ca"):
        port_of("--admin-access", str(access))

    async def call(name: str) -> str:
        credentials = grpc.ssl_channel_credentials(
            ca.read_bytes(), (tmp_path / f"{name}.pem").read_bytes(), (tmp_path / f"{name}.crt").read_bytes()
        )
        options = (("grpc.ssl_target_name_override", "admin.internal"),)
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            request = admin_pb2.SetWeightRequest(service="trade", reason="why", actor="eve")
            answer = await admin_pb2_grpc.AdminStub(channel).SetWeight(request, timeout=10)
            return str(answer.after[0].version)

    async with serving(port_of("--admin-access", str(access), *tls)) as address:
        assert await call("ann") == "ann"
        code, _ = await refused(call("stranger"))
        assert code is grpc.StatusCode.UNAUTHENTICATED


# -- the log -------------------------------------------------------------------------------------------------------


async def test_every_change_is_recorded_with_who_why_and_what_came_of_it(tmp_path: Path) -> None:
    flags = ("--admin-access", str(access_file(tmp_path)), "--admin-audit", str(tmp_path / "audit.sqlite"))
    async with serving(port_of(*flags)) as address:
        await set_weight(address, TOKENS["oskar"])
        await refused(set_weight(address, TOKENS["oskar"], service="nobody"))
        await refused(set_weight(address, TOKENS["vera"]))
        await status(address, TOKENS["vera"])
        async with grpc.aio.insecure_channel(address) as channel:
            metadata = (("authorization", f"Bearer {TOKENS['vera']}"),)
            stub = admin_audit_pb2_grpc.AuditStub(channel)
            answer = await stub.List(audit_pb.ListRequest(), metadata=metadata, timeout=10)
    assert answer.intact
    shown = [(one.actor, one.role, one.method.rpartition("/")[2], one.result) for one in answer.entries]
    assert shown == [
        ("oskar", "operator", "SetWeight", "OK"),
        ("oskar", "operator", "SetWeight", "NOT_FOUND: no service nobody"),
    ]
    asked = json.loads(answer.entries[0].asked)
    assert (asked["reason"], asked["weights"]) == ("why", {"v1": 10_000})
    assert json.loads(answer.entries[0].answered) == {"after": [{"version": "oskar", "weight": 1}]}


async def test_what_cannot_be_recorded_is_not_done(tmp_path: Path) -> None:
    async with serving(port_of("--admin-audit", str(tmp_path / "audit.sqlite"))) as address:
        with contextlib.closing(sqlite3.connect(tmp_path / "audit.sqlite")) as database:
            database.execute("DROP TABLE audit")
        code, said = await refused(set_weight(address))
        assert (code, said) == (grpc.StatusCode.UNAVAILABLE, "it cannot be recorded, so it is not done")


def test_a_row_that_was_changed_or_taken_out_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "audit.sqlite"
    log = AuditLog(file)
    for number in range(3):
        log.end(log.begin("ann", "admin", "/x/Set", f'{{"n": {number}}}'), "{}", "OK")
    assert log.broken_at() is None
    assert [one.number for one in log.entries(limit=2)] == [3, 5]
    assert log.begin("bob", "admin", "/x/Set", "{}") == 7, "the process ends here"
    assert log.entries()[-1].result == ""
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE audit SET content = replace(content, 'ann', 'eve') WHERE number = 3")
        database.commit()
        assert log.broken_at() == 3
        database.execute("UPDATE audit SET content = replace(content, 'eve', 'ann') WHERE number = 3")
        database.execute("DELETE FROM audit WHERE number = 4")
        database.commit()
    assert log.broken_at() == 5
    log.close()


async def test_a_call_of_any_length_is_recorded_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What one caller sends may not keep the others' changes from being read."""
    async with serving(port_of("--admin-audit", str(tmp_path / "audit.sqlite"))) as address:
        await set_weight(address, service="x" * 100_000)
        await set_weight(address, actor="bob")
        for output in ("json", "table"):
            assert await asyncio.to_thread(main, ["audit", "--admin", address, "-o", output]) == 0
            shown = capsys.readouterr().out
            assert "bob" in shown
            if output == "json":
                long, short = json.loads(shown)
                assert (long["asked"]["reason"], short["asked"]["reason"]) == ("why", "why")
                assert long["asked"]["characters"] > 100_000
                assert len(shown) < 10_000


async def test_a_caller_that_hangs_up_is_recorded_as_such(tmp_path: Path) -> None:
    file = tmp_path / "audit.sqlite"
    async with serving(port_of("--admin-audit", str(file))) as address:
        code, _ = await refused(set_weight(address, service="slow", timeout_s=0.3))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        with contextlib.closing(AuditLog(file)) as log:
            async with asyncio.timeout(20):
                while not log.entries()[0].result:
                    await asyncio.sleep(0.02)
            assert log.entries()[0].result.startswith("CANCELLED: ")


async def test_a_stream_has_no_guard_and_is_not_served(tmp_path: Path) -> None:
    reached = False

    async def stream(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        nonlocal reached
        reached = True
        yield b"secret"

    port = port_of("--admin-access", str(access_file(tmp_path)))
    handler = grpc.method_handlers_generic_handler("x.X", {"Watch": grpc.unary_stream_rpc_method_handler(stream)})
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port.listen = f"127.0.0.1:{probe.getsockname()[1]}"
    serve = port.serving(lambda server: server.add_generic_rpc_handlers((handler,)))
    async with serve, grpc.aio.insecure_channel(port.listen) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await channel.unary_stream("/x.X/Watch")(b"", timeout=10).read()
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert not reached
