"""Owns the names of clusters, listeners and route configurations, and the type URLs of what we serve."""

from __future__ import annotations

LISTENER = "paymesh"
ROUTE_CONFIGURATION = "paymesh"
EXT_AUTHZ_CLUSTER = "paymesh_ext_authz"
EXT_PROC_CLUSTER = "paymesh_ext_proc"
XDS_CLUSTER = "xds_cluster"
"""This control plane, in Envoy's bootstrap."""
TRACING_CLUSTER = "paymesh_tracing"

_PREFIX = "type.googleapis.com/envoy.config."
CLUSTER_TYPE = f"{_PREFIX}cluster.v3.Cluster"
ENDPOINT_TYPE = f"{_PREFIX}endpoint.v3.ClusterLoadAssignment"
LISTENER_TYPE = f"{_PREFIX}listener.v3.Listener"
ROUTE_TYPE = f"{_PREFIX}route.v3.RouteConfiguration"
SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a name

TYPES = (CLUSTER_TYPE, SECRET_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE)
"""In the order in which they must reach Envoy: what is referred to before what refers to it."""
