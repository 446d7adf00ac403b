"""Owns how `services` are written. Keys are named as Envoy names them.

Refuses I/O: what stands in a file of endpoints is read by the control plane, certificates by Envoy.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictInt, StringConstraints, model_validator

from paymesh.payments.policy.compiled import TOTAL_WEIGHT
from paymesh.payments.policy.upstreams import HttpProtocol, LoadBalancing
from paymesh.payments.policy.values import Document, Interpolated, Milliseconds, Name, Port, Weight

Count = Annotated[StrictInt, Field(ge=1, le=1_000_000)]
Percent = Annotated[StrictInt, Field(ge=0, le=100)]
Status = Annotated[StrictInt, Field(ge=100, le=599)]
HostName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\.?$",
        max_length=253,
    ),
]


class EndpointDocument(Document):
    address: Interpolated = Field(description="IP address.")
    port: Port


class DnsDocument(Document):
    """Envoy resolves the name itself, and keeps the addresses that it knows while DNS is down or answers none."""

    hostname: HostName
    port: Port
    every_address: bool = Field(
        True,
        description="Each address is a host of its own. False: the name stands for one host, balanced elsewhere.",
    )


class VersionDocument(Document):
    """Its hosts come from exactly one of endpoints, dns and endpoints_file."""

    name: Name
    endpoints: tuple[EndpointDocument, ...] = ()
    dns: DnsDocument | None = None
    endpoints_file: Interpolated | None = Field(
        None,
        description="A YAML or JSON file beside this one: a list of address, port and optionally weight and zone, "
        "read again within a second of a change. An empty or broken one changes nothing.",
    )
    weight: Weight = Field(
        TOTAL_WEIGHT, description="Percent of the traffic at first, in steps of 0.01; `set-weight` wins over it."
    )

    @model_validator(mode="after")
    def _one_source(self) -> VersionDocument:
        if [bool(self.endpoints), self.dns is not None, self.endpoints_file is not None].count(True) != 1:
            raise ValueError("its hosts come from exactly one of endpoints, dns and endpoints_file")
        return self


class CircuitBreakersDocument(Document):
    """Of each version in each Envoy. A request beyond them is answered 503 in its caller's protocol and never sent."""

    max_connections: Count = 1024
    max_pending_requests: Count = Field(1024, description="Requests that wait for a connection.")
    max_requests: Count = Field(1024, description="Requests in flight, over HTTP/2.")


class OutlierDetectionDocument(Document):
    """When a host's answers put it out for a while. At least one of the three reasons is given."""

    consecutive_5xx: Count | None = Field(None, description="Answers of 500 and above in a row, timeouts too.")
    consecutive_gateway_failure: Count | None = Field(None, description="Of 502, 503, 504 in a row, timeouts too.")
    consecutive_local_origin_failure: Count | None = Field(
        None, description="Connections that failed, broke or timed out in a row; then these alone count here, and not "
        "in the other two."
    )  # fmt: skip
    interval: Milliseconds = Field(1000, description="How often ejected hosts are looked at.")
    base_ejection_time: Milliseconds = Field(30_000, description="Times the number of ejections so far.")
    max_ejection_time: Milliseconds = 300_000
    max_ejection_percent: Annotated[StrictInt, Field(ge=1, le=100)] = Field(
        50, description="Of the version's hosts, that may be out at once. 100: all of them, which closes it."
    )

    @model_validator(mode="after")
    def _some_reason(self) -> OutlierDetectionDocument:
        reasons = (self.consecutive_5xx, self.consecutive_gateway_failure, self.consecutive_local_origin_failure)
        if all(reason is None for reason in reasons):
            raise ValueError("at least one of the consecutive_ counts says what puts a host out")
        if self.max_ejection_time < self.base_ejection_time:
            raise ValueError("max_ejection_time is at least base_ejection_time")
        return self


class HttpCheckDocument(Document):
    path: Annotated[str, StringConstraints(pattern=r"^/[\x21-\x7e]*$")] = "/healthz"
    host: HostName | None = Field(None, description="The Host header; absent: the cluster's name.")
    expected_statuses: tuple[Status, ...] = Field((200,), min_length=1)


class GrpcCheckDocument(Document):
    """grpc.health.v1.Health/Check; needs `http_protocol: http2`."""

    service_name: str = ""


class TcpCheckDocument(Document):
    send: str = Field("", description="Sent once the connection is open, UTF-8.")
    receive: str = Field("", description="What the answer must hold, UTF-8. Empty: an open connection is enough.")


class HealthCheckDocument(Document):
    """What Envoy asks every host. Exactly one of http, grpc and tcp."""

    http: HttpCheckDocument | None = None
    grpc: GrpcCheckDocument | None = None
    tcp: TcpCheckDocument | None = None
    timeout: Milliseconds = 1000
    interval: Milliseconds = 1000
    no_traffic_interval: Milliseconds | None = Field(None, description="Before the first request. Absent: interval.")
    unhealthy_threshold: Count = Field(2, description="Failures in a row.")
    healthy_threshold: Count = Field(1, description="Successes in a row.")

    @model_validator(mode="after")
    def _one_kind(self) -> HealthCheckDocument:
        if [self.http, self.grpc, self.tcp].count(None) != 2:
            raise ValueError("a health check is exactly one of http, grpc and tcp")
        return self


class UpstreamTlsDocument(Document):
    """TLS 1.2 or newer to the service. Files are PEM on Envoy's machine; rotate them by moving new ones over them."""

    ca_file: Interpolated = Field(description="What issued the service's certificate.")
    subject_alt_names: tuple[Annotated[str, StringConstraints(min_length=1, max_length=255)], ...] = Field(
        min_length=1, description="DNS names or URIs (SPIFFE): the service's certificate must have one of them."
    )
    sni: HostName | None = Field(None, description="Absent: the first name that is no URI.")
    certificate_file: Interpolated | None = Field(None, description="Of this gateway, for mTLS.")
    key_file: Interpolated | None = None

    @model_validator(mode="after")
    def _pairs(self) -> UpstreamTlsDocument:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        if self.sni is None and all("://" in name for name in self.subject_alt_names):
            raise ValueError("sni is needed where every name is a URI")
        return self


class ServiceDocument(Document):
    """What Envoy routes to. Its versions share one weighted cluster, in the order given here."""

    name: Name
    versions: tuple[VersionDocument, ...] = Field(
        min_length=1, max_length=3, description="With three, the stable version stands in the middle."
    )
    connect_timeout: Milliseconds = Field(1000, description="Such as 500ms or 1s.")
    http_protocol: HttpProtocol = HttpProtocol.HTTP1
    load_balancing: LoadBalancing = LoadBalancing.ROUND_ROBIN
    circuit_breakers: CircuitBreakersDocument | None = Field(None, description="Absent: Envoy's own, 1024 of each.")
    outlier_detection: OutlierDetectionDocument | None = None
    health_check: HealthCheckDocument | None = None
    panic_threshold: Percent = Field(
        0,
        description="Percent of healthy hosts below which requests go to sick ones, too. 0: never, 503 instead.",
    )
    tls: UpstreamTlsDocument | None = None
