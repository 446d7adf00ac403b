"""Owns the processes that `bench.chain` measures: policy, services, upstream and the gateway's Envoys.

The gateway's configuration is what the control plane builds from the policy, made static; a variant is that
configuration with filters taken out.
"""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2

# The types inside the shipped bootstrap must be known to parse it.
from envoy.extensions.filters.http.set_metadata.v3 import set_metadata_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.resource_monitors.downstream_connections.v3 import downstream_connections_pb2  # noqa: F401
from envoy.extensions.resource_monitors.fixed_heap.v3 import fixed_heap_pb2  # noqa: F401
from google.protobuf.json_format import ParseDict

from bench.load import KEY_ID, TARGET
from control_plane.resources.names import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE
from control_plane.settings import GatewaySettings
from control_plane.weights import effective_weights
from control_plane.xds.snapshot import build_snapshot
from paymesh.cli.stack.bootstrap import render_bootstrap
from paymesh.cli.stack.processes import ProcessSpec
from paymesh.payments import internal_names as names
from paymesh.payments.policy.load import load
from paymesh.server.envoy_binary import find_envoy

HOST = "127.0.0.1"
_EXT_PROC_FILTERS = [names.SANITIZE_FILTER, names.ANSWER_FILTER, names.OBSERVE_FILTER]
_ANSWER = '{"order_no":"x","status":"SUCCEEDED"}'
_POLICY = f"""
merchants: [{{id: bench, credentials: [{{scheme: hmac, key_id: {KEY_ID}, secret: {{file: hmac.key}}}}]}}]
rate_limits: [{{name: never-refuses, requests_per_second: 1000000, burst: 10000000}}]
services: [{{name: trade, versions: [{{name: v1, endpoints: [{{address: {HOST}, port: "${{BENCH_UPSTREAM}}"}}]}}]}}]
channels: [{{name: card, service: trade, products: [card]}}]
routes:
  - name: payments
    match: {{path: {TARGET}, methods: [POST]}}
    operation: pay
    schemes: [hmac]
    fields: {{order_no: /order_no, amount: /amount/total, currency: /amount/currency, product: /product}}
    rate_limits: [never-refuses]
    channels: [card]
    sanitize:
      request:
        - {{field: /payer/phone, action: mask, kind: phone}}
        - {{field: /card/pan, action: mask, kind: pan}}
        - {{field: /card/cvv, action: drop}}
        - {{field: /payer/email, action: hash, keys: pii}}
field_keys: [{{name: pii, keys: [{{id: k1, secret: {{file: hash.key}}}}]}}]
"""


@dataclass(frozen=True, slots=True)
class Variant:
    """A chain: which of the two services take part, and whether the bare handler stands in for ext_authz."""

    title: str
    ext_authz: bool
    ext_proc: bool
    bare: bool = False


class Site:
    """A folder with the policy and its keys, and a free port for everything."""

    def __init__(self, folder: Path, policy: str = _POLICY, events: str = "none") -> None:
        self._events = events
        self._folder = folder
        self._policy = folder / "policy.yaml"
        self.secret = folder / "hmac.key"
        self._ports = _free_ports("gateway", "admin", "upstream", "upstream_admin", "ext_authz", "ext_proc", "bare")
        self.environ = {"BENCH_UPSTREAM": str(self._ports["upstream"])}
        self._policy.write_text(policy, encoding="utf-8")
        for name in ("hmac", "hash"):
            (folder / f"{name}.key").write_text(f"a secret of the benchmark: {name}".ljust(32, ".")[:32])

    def address(self, name: str) -> str:
        return f"{HOST}:{self._ports[name]}"

    def ext_proc(self) -> ProcessSpec:
        return self._service("ext_proc")

    def services(self) -> tuple[ProcessSpec, ...]:
        """All but the gateway: they stay the same from variant to variant."""
        return (
            self._upstream(),
            self._service("ext_authz"),
            self._service("ext_proc"),
            ProcessSpec(
                "bare",
                (
                    *(sys.executable, "-m", "bench.load", "serve"),
                    *("--target", self.address("bare"), "--ext-authz", self.address("ext_authz")),
                ),
                (f"grpc:{self.address('bare')}",),
            ),
        )

    def _service(self, name: str) -> ProcessSpec:
        return ProcessSpec(
            name,
            (
                *(sys.executable, "-m", name, "--policy", str(self._policy), "--listen", self.address(name)),
                *("--events", self._events),
            ),
            (f"grpc:{self.address(name)}",),
        )

    def gateway(self, variant: Variant) -> ProcessSpec:
        """The gateway's Envoy with this chain, otherwise as `paymesh up` starts it."""
        file = self._folder / "gateway.pb"
        file.write_bytes(self._gateway_bootstrap(variant).SerializeToString())
        return self._envoy("envoy", file, "admin", workers=2)

    def _gateway_bootstrap(self, variant: Variant) -> bootstrap_pb2.Bootstrap:
        document = yaml.safe_load(render_bootstrap(admin_port=self._ports["admin"], xds_port=1))
        del document["dynamic_resources"], document["static_resources"], document["cluster_manager"]
        bootstrap = ParseDict(document, bootstrap_pb2.Bootstrap())
        policy = load([self._policy], self.environ).policy
        settings = GatewaySettings(
            gateway=(HOST, self._ports["gateway"]),
            ext_authz=((HOST, self._ports["bare" if variant.bare else "ext_authz"]),),
            ext_proc=((HOST, self._ports["ext_proc"]),),
            access_log=str(self._folder / "access.log"),
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
        bootstrap.static_resources.listeners.append(_listener(listener, routes, variant))
        return bootstrap

    def _upstream(self) -> ProcessSpec:
        """A second Envoy that answers at once, after the request's last byte (the buffer filter waits for it)."""
        http = "type.googleapis.com/envoy.extensions.filters.http"
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
            ".HttpConnectionManager",
            "stat_prefix": "upstream",
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "all",
                        "domains": ["*"],
                        "routes": [
                            {
                                "match": {"prefix": "/"},
                                "direct_response": {"status": 200, "body": {"inline_string": _ANSWER}},
                            }
                        ],
                    }
                ],
                "response_headers_to_add": [
                    {
                        "header": {"key": "content-type", "value": "application/json"},
                        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                    }
                ],
            },
            "http_filters": [
                {"name": "buffer", "typed_config": {"@type": f"{http}.buffer.v3.Buffer", "max_request_bytes": 65536}},
                {"name": "router", "typed_config": {"@type": f"{http}.router.v3.Router"}},
            ],
        }
        bootstrap = {
            "admin": {"address": self._socket("upstream_admin")},
            "static_resources": {
                "listeners": [
                    {
                        "name": "upstream",
                        "address": self._socket("upstream"),
                        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                    }
                ]
            },
        }
        file = self._folder / "upstream.yaml"
        file.write_text(yaml.safe_dump(bootstrap), encoding="utf-8")
        return self._envoy("upstream", file, "upstream_admin", workers=1)

    def _socket(self, name: str) -> dict[str, object]:
        return {"socket_address": {"address": HOST, "port_value": self._ports[name]}}

    def _envoy(self, name: str, bootstrap: Path, admin: str, workers: int) -> ProcessSpec:
        command = (
            str(find_envoy()), "-c", str(bootstrap), "--log-level", "warning", "--concurrency", str(workers),
            "--disable-hot-restart",
        )  # fmt: skip
        return ProcessSpec(name, command, (f"http://{self.address(admin)}/ready",))


def _listener(listener: bytes, routes: bytes, variant: Variant) -> listener_pb2.Listener:
    """The control plane's listener with its routes inside, without the filters that this variant goes without."""
    made = listener_pb2.Listener.FromString(listener)
    packed = made.filter_chains[0].filters[0].typed_config
    manager = hcm_pb2.HttpConnectionManager()
    packed.Unpack(manager)
    manager.route_config.CopyFrom(route_pb2.RouteConfiguration.FromString(routes))
    without = [] if variant.ext_authz else [names.AUTHZ_FILTER]
    without += [] if variant.ext_proc else _EXT_PROC_FILTERS
    kept = [item for item in manager.http_filters if item.name not in without]
    del manager.http_filters[:]
    if variant.ext_proc and not variant.ext_authz:
        manager.http_filters.append(_decided())
    manager.http_filters.extend(kept)
    for route in manager.route_config.virtual_hosts[0].routes:
        for name in without:
            route.typed_per_filter_config.pop(name, None)
        if not variant.ext_authz:
            # Nobody writes x-pay-channel then, and Envoy removes what a client sends: match without it.
            matched = [item for item in route.match.headers if item.name != names.CHANNEL_HEADER]
            del route.match.headers[:]
            route.match.headers.extend(matched)
    packed.Pack(manager)
    return made


def _decided() -> hcm_pb2.HttpFilter:
    """The metadata that ext_authz would have written, by Envoy itself: ext_proc works only on what was allowed."""
    config = set_metadata_pb2.Config(metadata_namespace=names.AUTHZ_FILTER)
    config.value.update(
        {
            names.META_DECISION: names.DECISION_ALLOW,
            names.META_ROUTE: "payments",
            names.META_REQUEST_ID: "bench",
            names.META_CHANNEL: "card",
            names.META_CONTENT_TYPE: "application/json",
        }
    )
    made = hcm_pb2.HttpFilter(name="envoy.filters.http.set_metadata")
    made.typed_config.Pack(config)
    return made


def _free_ports(*wanted: str) -> dict[str, int]:
    sockets = [socket.create_server((HOST, 0)) for _ in wanted]
    try:
        return {name: taken.getsockname()[1] for name, taken in zip(wanted, sockets, strict=True)}
    finally:
        for taken in sockets:
            taken.close()
