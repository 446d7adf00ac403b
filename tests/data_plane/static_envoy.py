"""Owns an Envoy of its own with the control plane's listener and nothing that decides: routes inlined, no filters."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf.json_format import MessageToDict

from control_plane.resources.listener import build_listener
from control_plane.resources.names import LISTENER
from control_plane.settings import GatewaySettings
from paymesh.payments.policy.compiled import Policy
from paymesh.server.envoy_binary import find_envoy

HOST = "127.0.0.1"


def listener_of(
    policy: Policy, routes: route_pb2.RouteConfiguration, port: int, *, keeps_x_pay: bool = False
) -> dict[str, Any]:
    """The control plane's listener with these routes inlined. `keeps_x_pay`: clients may send what is ours to set."""
    # These protos must be known to turn what is inside the listener into JSON.
    from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
    from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2  # noqa: F401

    settings = GatewaySettings((HOST, port), ((HOST, 1),), ((HOST, 1),), "/dev/null")
    listener = listener_pb2.Listener.FromString(build_listener(policy, settings)[LISTENER])
    packed = listener.filter_chains[0].filters[0].typed_config
    manager = http_connection_manager_pb2.HttpConnectionManager()
    packed.Unpack(manager)
    router = manager.http_filters[-1]
    del manager.http_filters[:]
    manager.http_filters.append(router)
    del manager.access_log[:]
    manager.ClearField("rds")
    manager.ClearField("local_reply_config")
    if keeps_x_pay:
        manager.ClearField("early_header_mutation_extensions")
    manager.route_config.CopyFrom(routes)
    packed.Pack(manager)
    found: dict[str, Any] = MessageToDict(listener, preserving_proto_field_name=True)
    return found


@contextlib.contextmanager
def running_envoy(
    folder: Path, port: int, listeners: Sequence[dict[str, Any]], clusters: Sequence[dict[str, Any]] = ()
) -> Iterator[None]:
    """`port`: of one of the listeners; it answers by then."""
    admin = {"address": {"socket_address": {"address": HOST, "port_value": 0}}}
    static = {"listeners": list(listeners), "clusters": list(clusters)}
    (folder / "envoy.json").write_text(json.dumps({"admin": admin, "static_resources": static}))
    with (folder / "envoy.log").open("wb") as log:
        command = [str(find_envoy()), "-c", str(folder / "envoy.json"), "--disable-hot-restart", "--concurrency", "1"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_until_listening(port, process, folder / "envoy.log")
        yield
    finally:
        process.terminate()
        process.wait(10)


def _wait_until_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.05)
