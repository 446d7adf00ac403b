"""A real Envoy with a real `python -m ext_proc`, between a small upstream and an ext_authz that allows everything.

The listener, routes and clusters are the control plane's own, made static; so what is seen here is what is shipped.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp
import grpc
import yaml
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.resource_monitors.downstream_connections.v3 import downstream_connections_pb2  # noqa: F401
from envoy.extensions.resource_monitors.fixed_heap.v3 import fixed_heap_pb2  # noqa: F401
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from google.protobuf.json_format import ParseDict
from multidict import CIMultiDictProxy

from control_plane.resources.names import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE
from control_plane.settings import GatewaySettings
from control_plane.weights import effective_weights
from control_plane.xds.snapshot import build_snapshot
from paymesh.cli.stack.bootstrap import render_bootstrap
from paymesh.payments import internal_names as names
from paymesh.payments.policy.load import load_policy
from paymesh.server.envoy_binary import find_envoy

_HOST = "127.0.0.1"
POLICY = """
merchants:
  - {id: m, credentials: [{scheme: hmac, key_id: k, secret: {file: secret}}]}
response_signers:
  - {protocol: wechat_v3, private_key: {file: signer.pem}, serial: PUB_KEY_ID_0000000000000000001}
  - {protocol: alipay_v2, private_key: {file: signer.pem}}
field_keys: [{name: tokens, keys: [{id: k1, secret: {file: secret}}]}]
services: [{name: trade, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: "${UPSTREAM}"}]}]}]
channels: [{name: card, service: trade}]
routes:
  - name: sanitized
    match: {path: /sanitized, methods: [POST]}
    max_body_bytes: 4194304
    operation: pay
    schemes: [hmac]
    fields: {order_no: /order_no, amount: /amount}
    channels: [card]
    body: {formats: [json, form, multipart]}
    sanitize:
      request:
        - {field: /payer/phone, action: mask, kind: phone}
        - {field: /phone, action: mask, kind: phone}
        - {field: /name, action: mask}
        - {field: /card/cvv, action: drop}
        - {field: /payer/email, action: hash, keys: tokens}
  - name: observed
    match: {path: /observed, methods: [POST]}
    operation: pay
    schemes: [hmac]
    fields: {order_no: /order_no, amount: /amount}
    channels: [card]
  - name: answered
    match: {path: /answered, methods: [POST]}
    max_response_bytes: 4194304
    operation: pay
    timeout: 5s
    schemes: [hmac]
    fields: {order_no: /order_no, amount: /amount}
    channels: [card]
    sanitize:
      response: [{field: /phone, action: mask, kind: phone}, {field: /note, action: mask, kind: all}]
  - name: quick
    match: {path: /quick, methods: [POST]}
    operation: pay
    timeout: 1s
    schemes: [hmac]
    fields: {order_no: /order_no, amount: /amount}
    channels: [card]
    sanitize: {response: [{field: /phone, action: mask, kind: phone}]}
  - name: both
    match: {path: /both, methods: [POST]}
    operation: pay
    timeout: 1s
    schemes: [hmac]
    fields: {order_no: /order_no, amount: /amount}
    channels: [card]
    sanitize:
      request: [{field: /phone, action: mask, kind: phone}]
      response: [{field: /phone, action: mask, kind: phone}]
  - name: lookup
    match: {path: /lookup}
    operation: query
    schemes: [hmac]
    service: trade
    idempotency_key: ignored
    sanitize: {response: [{field: /phone, action: mask, kind: phone}]}
  - name: lenient
    match: {path: /lenient}
    operation: query
    schemes: [hmac]
    service: trade
    max_response_bytes: 100000
    sanitize: {response: [{field: /phone, action: mask, kind: phone}], unreadable_answers: pass}
  - name: wechat
    match: {path: /v3/pay/transactions/id/1}
    operation: query
    schemes: [wechat_v3]
    service: trade
    sanitize: {sign_again: true, response: [{field: /payer/openid, action: mask}]}
  - name: alipay-pay
    match: {path: /gateway.do, methods: [POST], signed_parameters: {method: alipay.trade.precreate}}
    operation: pay
    schemes: [alipay_v2]
    fields: {order_no: /biz_content/out_trade_no, amount: /biz_content/total_amount}
    channels: [card]
    sanitize:
      service_verifies: false
      request: [{field: /biz_content/buyer/phone, action: mask, kind: phone}, {field: /buyer_name, action: mask}]
  - name: alipay-query
    match: {path: /gateway.do, methods: [POST], signed_parameters: {method: alipay.trade.query}}
    operation: query
    schemes: [alipay_v2]
    service: trade
    sanitize:
      sign_again: true
      response: [{field: /alipay_trade_query_response/buyer_logon_id, action: mask, kind: phone}]
  - name: bodiless
    match: {path: /bodiless}
    operation: other
    schemes: [jwt]
    service: trade
    idempotency_key: ignored
    max_body_bytes: 1000
jwt_issuers:
  - {name: idp, issuer: "https://idp.example", audiences: [pay], algorithms: [RS256], jwks: {file: jwks.json}}
"""

REFUSED = b'{"status":"SUCCEEDED","phone":"13812341234"}'
"""What a refusal says here: what an answer would be read and sanitised for."""
Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Upstream:
    """Answers as the request's headers say, or as the script that `x-script` names; keeps what it received whole."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.scripts: dict[str, Script] = {}
        self.unread: dict[str, Script] = {}
        """By path: scripts that read the request themselves."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path in self.unread:
            return await self.unread[request.path](request)
        try:
            self.received.append((dict(request.headers), await request.read()))
        except ConnectionResetError:
            return web.Response()  # Envoy gave the request up, and hears no answer
        if "x-script" in request.headers:
            return await self.scripts[request.headers["x-script"]](request)
        answer = request.headers.get("x-answer", '{"status":"SUCCEEDED"}')
        status = int(request.headers.get("x-status", "200"))
        padding = int(request.headers.get("x-pad-to", "0"))
        body = answer.encode().ljust(padding)
        headers = {"content-type": request.headers.get("x-answer-type", "application/json")}
        if "x-chunked" not in request.headers:
            return web.Response(status=status, body=body, headers=headers)
        response = web.StreamResponse(status=status, headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        for start in range(0, len(body), 8192):
            await response.write(body[start : start + 8192])
        await response.write_eof()
        return response


class AllowAll(external_auth_pb2_grpc.AuthorizationServicer):  # type: ignore[misc]
    """Allows, as ext_authz does; `x-test-decision` changes or removes the decision, `x-test-route` names a variant."""

    async def Check(  # noqa: N802
        self, request: external_auth_pb2.CheckRequest, _: object
    ) -> external_auth_pb2.CheckResponse:
        attributes = request.attributes
        headers = {item.key: item.raw_value.decode() for item in attributes.request.http.header_map.headers}
        decision = headers.get("x-test-decision", "allow")
        route = headers.get("x-test-route", attributes.context_extensions[names.ROUTE_EXTENSION])
        response = external_auth_pb2.CheckResponse()
        if decision != "none":
            response.dynamic_metadata.update(
                {
                    names.META_DECISION: decision,
                    names.META_ROUTE: route,
                    names.META_REQUEST_ID: headers["x-request-id"],
                    names.META_CHANNEL: "card",
                    names.META_CONTENT_TYPE: headers.get("content-type", ""),
                }
            )
        if decision == "deny":
            response.status.code = 7
            response.denied_response.status.code = 200
            response.denied_response.body = REFUSED.decode()
            _set(response.denied_response.headers, "content-type", "application/json")
            _set(response.denied_response.headers, names.REQUEST_ID_HEADER, headers["x-request-id"])
            return response
        for name, value in ((names.CHANNEL_HEADER, "card"), (names.ROUTE_HEADER, route), (names.SPLIT_HEADER, "m")):
            _set(response.ok_response.headers, name, value)
        return response


def _set(headers: Any, name: str, value: str) -> None:
    added = headers.add(append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD)
    added.header.key, added.header.value = name, value


@dataclass(frozen=True)
class Exchange:
    """One request through the gateway, its answer, and what the upstream received, if anything."""

    request_id: str
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    received: list[bytes]


@dataclass
class Gateway:
    """The running parts; `address` is Envoy's listener."""

    folder: Path
    upstream: Upstream
    ext_proc_port: int
    environ: dict[str, str]
    address: str = ""
    admin: str = ""
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start_ext_proc(self) -> None:
        arguments = ("-m", "ext_proc", "--policy", str(self.folder / "policy.yaml"), "--events", "none")
        await self._start("ext_proc", sys.executable, *arguments, "--listen", f"{_HOST}:{self.ext_proc_port}")
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(_HOST, self.ext_proc_port)
                    writer.close()
                    await writer.wait_closed()
                    return
                await asyncio.sleep(0.05)

    async def kill_ext_proc(self) -> None:
        process = self.processes.pop("ext_proc")
        process.send_signal(signal.SIGKILL)
        await process.wait()

    @contextlib.contextmanager
    def frozen_ext_proc(self) -> Iterator[None]:
        """Still there, its connections open, and silent."""
        self.processes["ext_proc"].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.processes["ext_proc"].send_signal(signal.SIGCONT)

    async def start_envoy(self, bootstrap: bootstrap_pb2.Bootstrap) -> None:
        (self.folder / "envoy.pb").write_bytes(bootstrap.SerializeToString())
        admin = self.folder / "admin"
        await self._start(
            "envoy", str(find_envoy()), "-c", str(self.folder / "envoy.pb"), "--concurrency", "1",
            "--use-dynamic-base-id", "--file-flush-interval-msec", "50", "--admin-address-path", str(admin),
        )  # fmt: skip
        async with asyncio.timeout(20):
            while not (admin.exists() and admin.read_text()):
                await asyncio.sleep(0.05)
            self.admin = f"http://{admin.read_text().strip()}"
            async with aiohttp.ClientSession() as session:
                while (await session.get(f"{self.admin}/ready")).status != 200:
                    await asyncio.sleep(0.05)
                self.address = f"http://{(await (await session.get(f'{self.admin}/listeners')).text()).split('::')[1]}"

    async def _start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *command, stdout=log, stderr=log, env=os.environ | self.environ
            )

    async def stop(self) -> None:
        for process in self.processes.values():
            if process.returncode is None:
                process.terminate()
        for process in self.processes.values():
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()

    def log_lines(self, name: str, request_id: str) -> list[dict[str, object]]:
        lines = (self.folder / f"{name}.log").read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [line for line in found if line.get("request_id") == request_id]


async def send(
    gateway: Gateway,
    path: str,
    body: bytes | BinaryIO | AsyncIterator[bytes] | None,
    method: str = "POST",
    **headers: str,
) -> Exchange:
    """A request over HTTP/1.1: chunked if the body is an iterator. Header names are written with underscores."""
    gateway.upstream.received.clear()
    sent = {"content-type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30), auto_decompress=False) as session,
        session.request(method, gateway.address + path, data=body, headers=sent) as answer,
    ):
        found = await answer.read()
        received = [body for _, body in gateway.upstream.received]
        return Exchange(answer.headers.get(names.REQUEST_ID_HEADER, ""), answer.status, answer.headers, found, received)


async def line(gateway: Gateway, name: str, request_id: str, **wanted: str) -> dict[str, object]:
    """The first log line of that request with those values; Envoy and the services write theirs a little later."""
    async with asyncio.timeout(15):
        while True:
            for found in gateway.log_lines(name, request_id):
                if all(found.get(key) == value for key, value in wanted.items()):
                    return found
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def running_gateway(folder: Path) -> AsyncIterator[Gateway]:
    """Everything, on ports of its own; stopped at the end."""
    upstream = Upstream()
    app = web.Application(client_max_size=1 << 23)
    app.router.add_route("*", "/{path:.*}", upstream.handle)
    runner = web.AppRunner(app, shutdown_timeout=1, auto_decompress=False)
    await runner.setup()
    site = web.TCPSite(runner, _HOST, 0)
    await site.start()
    environ = {"UPSTREAM": str(runner.addresses[0][1])}
    authz = grpc.aio.server()
    external_auth_pb2_grpc.add_AuthorizationServicer_to_server(AllowAll(), authz)
    authz_port = authz.add_insecure_port(f"{_HOST}:0")
    await authz.start()
    gateway = Gateway(folder, upstream, _free_port(), environ)
    try:
        _write_policy(folder)
        await gateway.start_ext_proc()
        await gateway.start_envoy(_bootstrap(folder, environ, authz_port, gateway.ext_proc_port))
        yield gateway
    finally:
        await gateway.stop()
        await authz.stop(0)
        await runner.cleanup()


def _write_policy(folder: Path) -> None:
    (folder / "secret").write_text("a throw-away secret, 32 bytes ..")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "signer.pem").write_bytes(pem)
    numbers = key.public_key().public_numbers()
    jwk = {"kty": "RSA", "kid": "1", "alg": "RS256", "n": _base64url(numbers.n), "e": _base64url(numbers.e)}
    (folder / "jwks.json").write_text(json.dumps({"keys": [jwk]}))
    (folder / "policy.yaml").write_text(POLICY)


def _base64url(number: int) -> str:
    octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _bootstrap(folder: Path, environ: dict[str, str], authz_port: int, ext_proc_port: int) -> bootstrap_pb2.Bootstrap:
    """The shipped bootstrap with the control plane's resources inside instead of the way to it."""
    document = yaml.safe_load(render_bootstrap(admin_port=0, xds_port=1))
    del document["dynamic_resources"], document["static_resources"], document["cluster_manager"]
    bootstrap = ParseDict(document, bootstrap_pb2.Bootstrap())
    policy = load_policy([folder / "policy.yaml"], environ)
    settings = GatewaySettings(
        (_HOST, 0), ((_HOST, authz_port),), ((_HOST, ext_proc_port),), access_log=str(folder / "access.log")
    )
    built = build_snapshot(policy, effective_weights(policy, {}), settings).resources
    for name, cluster in built[CLUSTER_TYPE].items():
        made = bootstrap.static_resources.clusters.add()
        made.ParseFromString(cluster)
        if name in built[ENDPOINT_TYPE]:
            made.ClearField("eds_cluster_config")
            made.type = cluster_pb2.Cluster.STATIC
            made.load_assignment.ParseFromString(built[ENDPOINT_TYPE][name])
    (listener,), (routes,) = built[LISTENER_TYPE].values(), built[ROUTE_TYPE].values()
    made_listener = bootstrap.static_resources.listeners.add()
    made_listener.ParseFromString(listener)
    packed = made_listener.filter_chains[0].filters[0].typed_config
    manager = hcm_pb2.HttpConnectionManager()
    packed.Unpack(manager)
    manager.route_config.CopyFrom(route_pb2.RouteConfiguration.FromString(routes))
    packed.Pack(manager)
    return bootstrap
