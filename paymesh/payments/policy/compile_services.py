"""Owns what becomes of `services`: addresses checked, weights that add up, and what Envoy is told of each."""

from __future__ import annotations

import ipaddress
from pathlib import PurePosixPath

from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import service_documents as d
from paymesh.payments.policy import upstreams as u
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.problems import DocumentPath


def compile_service(document: d.ServiceDocument, path: DocumentPath, findings: Findings) -> c.Service:
    """`document` stands at `path`."""
    versions = findings.unique(document.versions, (*path, "versions"))
    _check_weights(document, path, findings)
    return c.Service(
        name=document.name,
        versions=tuple(_version(version, (*path, "versions", index), findings) for index, version in versions),
        upstream=_upstream(document, path, findings),
    )


def _check_weights(document: d.ServiceDocument, path: DocumentPath, findings: Findings) -> None:
    total = sum(version.weight for version in document.versions)
    if total == c.TOTAL_WEIGHT:
        return
    if len(document.versions) > 1:
        findings.problem((*path, "versions"), f"the weights add up to {total / 100:g} percent, not to 100")
    else:
        findings.problem((*path, "versions", 0, "weight"), "the only version has all the traffic: weight 100")


def _version(document: d.VersionDocument, path: DocumentPath, findings: Findings) -> c.ServiceVersion:
    endpoints = tuple(
        _endpoint(endpoint, (*path, "endpoints", number), findings)
        for number, endpoint in enumerate(document.endpoints)
    )
    for number, endpoint in enumerate(endpoints):
        if endpoint in endpoints[:number]:
            findings.problem((*path, "endpoints", number), "is there twice: it would get twice the traffic")
    file = None if document.endpoints_file is None else findings.file(path, document.endpoints_file)
    dns = None
    if document.dns is not None:
        dns = u.Dns(document.dns.hostname, document.dns.port, document.dns.every_address)
    return c.ServiceVersion(document.name, endpoints, document.weight, dns, file)


def _endpoint(document: d.EndpointDocument, path: DocumentPath, findings: Findings) -> c.Endpoint:
    try:
        ipaddress.ip_address(document.address)
    except ValueError:
        findings.problem((*path, "address"), "an endpoint's address is an IP address")
    return c.Endpoint(document.address, document.port)


def _upstream(document: d.ServiceDocument, path: DocumentPath, findings: Findings) -> u.Upstream:
    breakers, outliers = document.circuit_breakers, document.outlier_detection
    check = document.health_check
    if check is not None and check.grpc is not None and document.http_protocol is not u.HttpProtocol.HTTP2:
        findings.problem((*path, "health_check", "grpc"), "gRPC is HTTP/2: set http_protocol: http2")
    return u.Upstream(
        connect_timeout_ms=document.connect_timeout,
        http_protocol=document.http_protocol,
        load_balancing=document.load_balancing,
        circuit_breakers=None
        if breakers is None
        else u.CircuitBreakers(breakers.max_connections, breakers.max_pending_requests, breakers.max_requests),
        outlier_detection=None
        if outliers is None
        else u.OutlierDetection(
            outliers.consecutive_5xx,
            outliers.consecutive_gateway_failure,
            outliers.consecutive_local_origin_failure,
            outliers.interval,
            outliers.base_ejection_time,
            outliers.max_ejection_time,
            outliers.max_ejection_percent,
        ),
        health_check=None if check is None else _health_check(check),
        panic_threshold=document.panic_threshold,
        tls=_tls(document.tls, (*path, "tls"), findings),
    )


def _health_check(document: d.HealthCheckDocument) -> u.HealthCheck:
    check: u.HttpCheck | u.GrpcCheck | u.TcpCheck
    if document.http is not None:
        check = u.HttpCheck(document.http.path, document.http.host, document.http.expected_statuses)
    elif document.grpc is not None:
        check = u.GrpcCheck(document.grpc.service_name)
    else:
        assert document.tcp is not None  # the model refuses anything else
        check = u.TcpCheck(document.tcp.send.encode(), document.tcp.receive.encode())
    return u.HealthCheck(
        check,
        document.timeout,
        document.interval,
        document.no_traffic_interval or document.interval,
        document.unhealthy_threshold,
        document.healthy_threshold,
    )


def _tls(document: d.UpstreamTlsDocument | None, path: DocumentPath, findings: Findings) -> u.UpstreamTls | None:
    if document is None:
        return None
    for key in ("ca_file", "certificate_file", "key_file"):
        file = getattr(document, key)
        if file is not None and not PurePosixPath(file).is_absolute():
            findings.problem((*path, key), "Envoy reads it: an absolute path on Envoy's machine")
    names = document.subject_alt_names
    sni = document.sni or next((name for name in names if "://" not in name), "")
    return u.UpstreamTls(document.ca_file, names, sni, document.certificate_file, document.key_file)
