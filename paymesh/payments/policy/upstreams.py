"""Owns what is known of a service beyond its addresses: how much it is given at once, when it counts as ill, its TLS.

Everything here is carried out by Envoy (DESIGN section 7); nothing here is read while a request is decided.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class HttpProtocol(enum.StrEnum):
    HTTP1 = "http1"
    HTTP2 = "http2"
    """Without upgrade: in plain text the service must know (h2c), over TLS by ALPN."""


class LoadBalancing(enum.StrEnum):
    ROUND_ROBIN = "round_robin"
    LEAST_REQUEST = "least_request"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class CircuitBreakers:
    """Per Envoy and version of the service. What is beyond them is answered 503 and never sent."""

    max_connections: int
    max_pending_requests: int
    max_requests: int


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """When answers to payments put a host out. None: that is no reason. Times in ms, shares in percent."""

    consecutive_5xx: int | None
    consecutive_gateway_failure: int | None
    consecutive_local_origin_failure: int | None
    interval_ms: int
    base_ejection_time_ms: int
    max_ejection_time_ms: int
    max_ejection_percent: int


@dataclass(frozen=True, slots=True)
class HttpCheck:
    path: str
    host: str | None
    expected_statuses: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GrpcCheck:
    """grpc.health.v1; an empty name asks for the server as a whole."""

    service_name: str


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """A connection that opens is enough where nothing is to be received."""

    send: bytes
    receive: bytes


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """What Envoy asks each host again and again. Times in ms."""

    check: HttpCheck | GrpcCheck | TcpCheck
    timeout_ms: int
    interval_ms: int
    no_traffic_interval_ms: int
    unhealthy_threshold: int
    healthy_threshold: int


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """Files are PEM on Envoy's machine, read and watched by Envoy: no private key passes through the control plane."""

    ca_file: str
    subject_alt_names: tuple[str, ...]
    """DNS names or URIs; the service's certificate must have one of them."""
    sni: str
    certificate_file: str | None
    key_file: str | None


@dataclass(frozen=True, slots=True)
class Dns:
    """Envoy resolves the name itself, anew whenever its time to live is over."""

    hostname: str
    port: int
    every_address: bool
    """True: each address is a host (STRICT_DNS); false: the first one stands for a name that is balanced elsewhere."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """`panic_threshold`: percent of healthy hosts below which Envoy sends to sick ones, too; 0: never."""

    connect_timeout_ms: int
    http_protocol: HttpProtocol = HttpProtocol.HTTP1
    load_balancing: LoadBalancing = LoadBalancing.ROUND_ROBIN
    circuit_breakers: CircuitBreakers | None = None
    outlier_detection: OutlierDetection | None = None
    health_check: HealthCheck | None = None
    panic_threshold: int = 0
    tls: UpstreamTls | None = None
