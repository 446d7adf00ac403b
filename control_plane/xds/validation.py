"""Owns asking Envoy itself about a configuration before any Envoy in service gets it: `envoy --mode validate`.

What is asked is what is sent, but whatever Envoy would fetch stands where it is referred to: routes in the listener (so
that one to a cluster that is not there is refused, too), endpoints in their clusters. What is on Envoy's machine
only is not looked at: certificates, log files.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from control_plane.resources.names import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, XDS_CLUSTER
from control_plane.xds.snapshot import Snapshot

TIMEOUT_S = 30.0
"""1,000 clusters and 5,000 routes take some 0.6 s (envoy-facts)."""
_MAX_MESSAGE = 2000


class EnvoyRefuses(Exception):  # noqa: N818 - it names what happened
    """Envoy would refuse this; the message is its own."""


class Validator:
    """Asks one Envoy binary."""

    def __init__(self, envoy: Path) -> None:
        self._envoy = envoy

    def check(self, snapshot: Snapshot) -> None:
        """Raises EnvoyRefuses. Blocking: some 100 ms and more."""
        with tempfile.TemporaryDirectory(prefix="paymesh-validate-") as folder:
            file = Path(folder) / "bootstrap.pb"
            file.write_bytes(_bootstrap(snapshot).SerializeToString())
            command = [str(self._envoy), "--mode", "validate", "-c", str(file), "--log-level", "error"]
            try:
                done = subprocess.run(  # noqa: S603 - our own binary and a file of our own
                    [*command, "--use-dynamic-base-id"], capture_output=True, timeout=TIMEOUT_S, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise EnvoyRefuses(f"Envoy could not be asked: {type(error).__name__}") from error
        if done.returncode != 0:
            raise EnvoyRefuses(_message(done.stderr.decode("utf-8", "replace"), str(file)))


def _bootstrap(snapshot: Snapshot) -> bootstrap_pb2.Bootstrap:
    found = bootstrap_pb2.Bootstrap()
    found.node.id = found.node.cluster = "paymesh-validation"
    ads = found.dynamic_resources.ads_config
    ads.api_type = config_source_pb2.ApiConfigSource.GRPC
    ads.transport_api_version = config_source_pb2.V3
    ads.grpc_services.add().envoy_grpc.cluster_name = XDS_CLUSTER
    found.static_resources.clusters.add(name=XDS_CLUSTER).connect_timeout.seconds = 1
    for name, data in snapshot.resources[CLUSTER_TYPE].items():
        cluster = cluster_pb2.Cluster.FromString(data)
        if cluster.HasField("eds_cluster_config"):
            cluster.ClearField("eds_cluster_config")
            cluster.type = cluster_pb2.Cluster.STATIC
            cluster.load_assignment.MergeFromString(snapshot.resources[ENDPOINT_TYPE][name])
        # Envoy 1.40 crashes where a secret of a static cluster comes over ADS and it only validates.
        cluster.ClearField("transport_socket")
        found.static_resources.clusters.append(cluster)
    for data in snapshot.resources[LISTENER_TYPE].values():
        listener = listener_pb2.Listener.FromString(data)
        _inline_routes(listener, snapshot)
        found.static_resources.listeners.append(listener)
    return found


def _inline_routes(listener: listener_pb2.Listener, snapshot: Snapshot) -> None:
    for chain in listener.filter_chains:
        chain.ClearField("transport_socket")
        for filter_ in chain.filters:
            manager = http_connection_manager_pb2.HttpConnectionManager()
            if not filter_.typed_config.Unpack(manager) or not manager.HasField("rds"):
                continue
            routes = route_pb2.RouteConfiguration.FromString(
                snapshot.resources[ROUTE_TYPE][manager.rds.route_config_name]
            )
            routes.validate_clusters.value = True
            manager.route_config.CopyFrom(routes)
            filter_.typed_config.Pack(manager)


def _message(stderr: str, file: str) -> str:
    """Envoy's own words, without the time, the place in its source and our temporary file."""
    marker = f"error initializing configuration '{file}': "
    for line in stderr.splitlines():
        if marker in line:
            return line.split(marker, 1)[1][:_MAX_MESSAGE]
    return stderr.strip()[-_MAX_MESSAGE:] or "it ended without a word"
