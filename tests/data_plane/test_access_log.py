"""What a listener of the access log hears from the real Envoy, for each way in which an exchange may end.

Envoy's configuration is the control plane's own; ext_authz is played here, for it must hang and refuse at will.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import grpc
import pytest
import pytest_asyncio
from aiohttp import web
from envoy.config.core.v3 import base_pb2
from envoy.service.accesslog.v3 import als_pb2_grpc
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from prometheus_client import CollectorRegistry

from paymesh.cli.stack.ports import Ports
from paymesh.payments import internal_names as names
from paymesh.server.access_log import AccessLogReceiver, Finished
from tests.data_plane.ext_proc_gateway import Gateway, Upstream
from tests.data_plane.ext_proc_gateway import _bootstrap as static_bootstrap

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
_HOST = "127.0.0.1"
_PAYMENT = b'{"order_no":"1","amount":"1"}'
_WORK_S = 0.2
_TIMEOUT_S = 1.0
_POLICY = """
merchants:
  - {id: m, credentials: [{scheme: hmac, key_id: k, secret: {file: secret}}]}
services:
  - {name: trade, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: "${UPSTREAM}"}]}]}
  - {name: dead, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: "${DEAD}"}]}]}
channels: [{name: card, service: trade}]
routes:
  - name: pay
    match: {path: /pay, methods: [POST]}
    operation: pay
    timeout: 1s
    max_body_bytes: 1000
    schemes: [hmac]
    fields: {order_no: /order_no, amount: /amount}
    channels: [card]
  - {name: dead, match: {path: /dead}, operation: query, schemes: [hmac], service: dead}
"""
_LIMIT = """
rate_limits: [{name: slots, kind: concurrency, key: [merchant], max: 10}]
"""


class Authorization(external_auth_pb2_grpc.AuthorizationServicer):  # type: ignore[misc]
    """Does as `x-check` says: refuses or hangs; else it allows, and the request holds a slot."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.hanging = asyncio.Event()
        self.given_up = asyncio.Event()

    def reset(self) -> None:
        self.seen.clear()
        self.hanging.clear()
        self.given_up.clear()

    async def Check(  # noqa: N802
        self, request: external_auth_pb2.CheckRequest, _: object
    ) -> external_auth_pb2.CheckResponse:
        headers = {item.key: item.raw_value.decode() for item in request.attributes.request.http.header_map.headers}
        self.seen.append(headers["x-request-id"])
        asked = headers.get("x-check", "")
        if asked == "hang":
            await self._hang()
        decision = names.DECISION_DENY if asked.startswith("deny") else names.DECISION_ALLOW
        response = external_auth_pb2.CheckResponse()
        response.dynamic_metadata.update({names.META_DECISION: decision, names.META_ROUTE: "pay"})
        if asked not in ("deny", "unheld"):
            response.dynamic_metadata.update({names.META_HELD: "slots:m"})
        if decision == names.DECISION_DENY:
            response.status.code = 7
            response.denied_response.status.code = 429
            return response
        for name, value in ((names.CHANNEL_HEADER, "card"), (names.ROUTE_HEADER, "pay"), (names.SPLIT_HEADER, "m")):
            added = response.ok_response.headers.add(
                append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
            )
            added.header.key, added.header.value = name, value
        return response

    async def _hang(self) -> None:
        self.hanging.set()
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            self.given_up.set()
            raise


class Recorder:
    def __init__(self) -> None:
        self.heard: asyncio.Queue[Finished] = asyncio.Queue()

    async def finished(self, exchange: Finished) -> None:
        await self.heard.put(exchange)


@dataclass
class Watched:
    """The running parts, and what the listener hears."""

    gateway: Gateway
    authorization: Authorization
    recorder: Recorder = field(default_factory=Recorder)
    working: asyncio.Event = field(default_factory=asyncio.Event)

    async def next(self) -> Finished:
        """The one entry that there is. Tests end one exchange at a time."""
        found = await asyncio.wait_for(self.recorder.heard.get(), 15)
        assert self.recorder.heard.empty()
        return found

    async def pay(self, path: str = "/pay", body: bytes = _PAYMENT, **headers: str) -> int:
        sent = {"content-type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session,
            session.post(self.gateway.address + path, data=body, headers=sent) as answer,
        ):
            await answer.read()
            return answer.status

    async def pay_and_go(self, until: asyncio.Event, **headers: str) -> None:
        """The client closes its connection as soon as `until` is set, and hears nothing."""
        until.clear()
        address = urlsplit(self.gateway.address)
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        lines = ["POST /pay HTTP/1.1", "host: gateway", f"content-length: {len(_PAYMENT)}"]
        lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + _PAYMENT)
        await asyncio.wait_for(until.wait(), 15)
        writer.close()
        await writer.wait_closed()


def _limited(policy: str) -> str:
    """With something to hold until the end."""
    return policy.replace("    channels: [card]\n", "    channels: [card]\n    rate_limits: [slots]\n") + _LIMIT


def _quiet(policy: str) -> str:
    """With nothing that waits for an end: no money moves, nothing is held."""
    head, pay, rest = policy.partition("    operation: pay\n")
    rest = rest.replace(
        "    fields: {order_no: /order_no, amount: /amount}\n    channels: [card]\n", "    service: trade\n"
    )
    return head + pay.replace("pay", "query") + rest


@contextlib.asynccontextmanager
async def watched(folder: Path, *, limited: bool) -> AsyncIterator[Watched]:
    """Envoy, ext_proc and a service; `limited`: by a policy with a limit of concurrency, else one of queries alone."""
    upstream = Upstream()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, _HOST, 0).start()
    ports = Ports.random()
    environ = {"UPSTREAM": str(runner.addresses[0][1]), "DEAD": str(ports.card)}
    authorization, server = Authorization(), grpc.aio.server()
    found = Watched(Gateway(folder, upstream, ports.ext_proc, environ), authorization)
    external_auth_pb2_grpc.add_AuthorizationServicer_to_server(authorization, server)
    receiver = AccessLogReceiver([found.recorder], CollectorRegistry())
    als_pb2_grpc.add_AccessLogServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port(f"{_HOST}:0")
    await server.start()
    _write_scripts(upstream, found.working)
    (folder / "secret").write_text("a throw-away secret, 32 bytes ..")
    (folder / "policy.yaml").write_text(_limited(_POLICY) if limited else _quiet(_POLICY))
    try:
        await found.gateway.start_ext_proc()
        await found.gateway.start_envoy(static_bootstrap(folder, environ, port, found.gateway.ext_proc_port))
        yield found
    finally:
        await found.gateway.stop()
        await server.stop(0)
        await runner.cleanup()


def _write_scripts(upstream: Upstream, working: asyncio.Event) -> None:
    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(_WORK_S)
        return web.json_response({"status": "SUCCEEDED"})

    async def broken(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def stuck(_: web.Request) -> web.StreamResponse:
        working.set()
        await asyncio.sleep(20)
        return web.Response()

    upstream.scripts = {"slow": slow, "broken": broken, "stuck": stuck}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    async with watched(tmp_path_factory.mktemp("watched"), limited=True) as found:
        yield found


@pytest.fixture
def gateway(running: Watched) -> Watched:
    running.authorization.reset()
    return running


async def test_success(gateway: Watched) -> None:
    assert await gateway.pay(x_script="slow") == 200
    heard = await gateway.next()
    assert [heard.request_id] == gateway.authorization.seen
    assert (heard.status, heard.flags, heard.outcome, heard.fault) == (200, frozenset(), "succeeded", "none")
    assert (heard.upstream_cluster, heard.reached_service) == ("trade|v1", True)
    assert heard.decision[names.META_HELD] == "slots:m"
    assert heard.decision[names.META_DECISION] == names.DECISION_ALLOW
    assert heard.service_s is not None
    assert _WORK_S * 0.9 < heard.service_s <= heard.duration_s


async def test_a_denial_is_told_only_if_something_waits_for_its_end(gateway: Watched) -> None:
    assert await gateway.pay(x_check="deny") == 429
    assert await gateway.pay(x_check="deny-held") == 429
    heard = await gateway.next()
    assert heard.request_id == gateway.authorization.seen[1]
    assert (heard.status, heard.flags, heard.reached_service) == (429, {"UAEX"}, False)
    assert heard.decision[names.META_DECISION] == names.DECISION_DENY
    assert (heard.service_s, heard.upstream_cluster) == (None, "")


async def test_a_service_that_breaks_off(gateway: Watched) -> None:
    assert await gateway.pay(x_script="broken") == 503
    heard = await gateway.next()
    assert (heard.status, heard.flags, heard.reached_service) == (503, {"UC"}, True)
    assert (heard.service_s, heard.upstream_cluster, heard.outcome) == (None, "trade|v1", "unknown")
    assert heard.fault == "channel"
    assert names.META_HELD in heard.decision


async def test_a_service_that_takes_too_long(gateway: Watched) -> None:
    assert await gateway.pay(x_script="stuck") == 504
    heard = await gateway.next()
    assert (heard.status, heard.flags, heard.reached_service) == (504, {"UT"}, True)
    assert (heard.service_s, heard.upstream_cluster) == (None, "trade|v1")
    assert heard.duration_s > _TIMEOUT_S * 0.9
    assert names.META_HELD in heard.decision


async def test_a_service_that_nobody_can_connect_to_was_not_reached(gateway: Watched) -> None:
    assert await gateway.pay("/dead") == 503
    heard = await gateway.next()
    assert (heard.flags, heard.reached_service, heard.service_s) == ({"UF"}, False, None)
    assert heard.upstream_cluster == "dead|v1"


async def test_a_client_that_goes_during_the_check(gateway: Watched) -> None:
    """No decision is in the entry; its request id is the one that the check was given."""
    await gateway.pay_and_go(gateway.authorization.hanging, x_check="hang")
    heard = await gateway.next()
    assert [heard.request_id] == gateway.authorization.seen
    assert (heard.status, heard.flags, heard.decision) == (0, {"DC"}, {})
    assert (heard.reached_service, heard.service_s, heard.upstream_cluster) == (False, None, "")
    assert heard.duration_s > 0
    await asyncio.wait_for(gateway.authorization.given_up.wait(), 15)


async def test_a_check_that_takes_too_long(gateway: Watched) -> None:
    assert await gateway.pay(x_check="hang") == 503
    heard = await gateway.next()
    assert [heard.request_id] == gateway.authorization.seen
    assert (heard.status, heard.flags, heard.decision) == (503, {"UAEX"}, {})
    assert not heard.reached_service


async def test_a_client_that_goes_while_the_service_works(gateway: Watched) -> None:
    await gateway.pay_and_go(gateway.working, x_script="stuck")
    heard = await gateway.next()
    assert [heard.request_id] == gateway.authorization.seen
    assert (heard.status, heard.flags, heard.reached_service) == (0, {"DC"}, True)
    assert (heard.service_s, heard.upstream_cluster) == (None, "trade|v1")
    assert heard.decision[names.META_HELD] == "slots:m"


@pytest.mark.parametrize(("path", "body", "status"), [("/nowhere", _PAYMENT, 404), ("/pay", b"x" * 1001, 413)])
async def test_what_no_check_saw_has_neither_a_decision_nor_a_flag(
    gateway: Watched, path: str, body: bytes, status: int
) -> None:
    assert await gateway.pay(path, body) == status
    heard = await gateway.next()
    assert (heard.status, heard.flags, heard.decision) == (status, frozenset(), {})
    assert gateway.authorization.seen == []


async def test_where_nothing_waits_for_an_end_nothing_undecided_is_told(tmp_path: Path) -> None:
    async with watched(tmp_path, limited=False) as gateway:
        await gateway.pay_and_go(gateway.authorization.hanging, x_check="hang")
        await asyncio.wait_for(gateway.authorization.given_up.wait(), 15)
        assert await gateway.pay("/nowhere") == 404
        assert await gateway.pay(x_check="unheld") == 200
        assert await gateway.pay() == 200
        assert (await gateway.next()).request_id == gateway.authorization.seen[-1]
