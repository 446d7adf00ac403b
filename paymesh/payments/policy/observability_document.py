"""Owns how `observability` is written, and what it compiles to. Refuses whatever would name a header or a query."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from pydantic import Field, StrictBool, model_validator

from paymesh.payments.policy.compiled import Route, Tracing, TracingProtocol
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.problems import DocumentPath
from paymesh.payments.policy.values import Document, Interpolated, Port, Weight

_HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,62})(\.[a-z0-9]([a-z0-9-]{0,62}))*\.?", re.IGNORECASE | re.ASCII
)


class CollectorDocument(Document):
    """Where spans are sent."""

    address: Interpolated = Field(description="IP address or host name.")
    port: Port


class TracingDocument(Document):
    """Spans of Envoy. Exactly one of opentelemetry and zipkin. They name route, merchant, decision, reason, channel and
    outcome; never path, query, headers or bodies."""

    opentelemetry: CollectorDocument | None = Field(None, description="OTLP over gRPC, commonly port 4317.")
    zipkin: CollectorDocument | None = Field(
        None,
        description="JSON to /api/v2/spans, commonly port 9411. Refused beside routes that sanitise or observe.",
    )
    continue_traces: StrictBool = Field(
        False,
        description="Go on with the trace that a client's `traceparent` names, sampled where it says so. Only where "
        "every client is known: otherwise strangers choose what is traced, and under which ids.",
    )
    sampling: Weight = Field(100, description="Percent of the requests that are traced, in steps of 0.01.")

    @model_validator(mode="after")
    def _exactly_one(self) -> TracingDocument:
        if (self.opentelemetry is None) == (self.zipkin is None):
            raise ValueError("spans are sent to exactly one of opentelemetry and zipkin")
        return self


class ObservabilityDocument(Document):
    tracing: TracingDocument | None = None


def compile_tracing(
    document: ObservabilityDocument | None, routes: Iterable[Route], findings: Findings
) -> Tracing | None:
    """What the control plane makes spans by; None: there are none."""
    if document is None or document.tracing is None:
        return None
    tracing = document.tracing
    kind = TracingProtocol.ZIPKIN if tracing.opentelemetry is None else TracingProtocol.OPENTELEMETRY
    collector = tracing.opentelemetry or tracing.zipkin
    assert collector is not None  # the model refuses both to be absent
    path: DocumentPath = ("observability", "tracing", kind.value, "address")
    if not _is_address(collector.address) and _HOST.fullmatch(collector.address) is None:
        findings.problem(path, "is neither an IP address nor a host name")
    streamed = next((route.name for route in routes if _uses_ext_proc(route)), None)
    if kind is TracingProtocol.ZIPKIN and streamed is not None:
        # Seen: the span of ext_proc's stream, which outlives the request (ext_proc_graceful_grpc_close), ends in a
        # null pointer of the Zipkin tracer. One sampled request is enough.
        findings.problem(
            path[:-1],
            f"Envoy 1.40 crashes where ext_proc is traced to Zipkin, and route {streamed} needs ext_proc: send the "
            "spans to an OpenTelemetry collector, which can pass them on to Zipkin",
        )
    return Tracing(kind, collector.address, collector.port, tracing.sampling, tracing.continue_traces)


def _uses_ext_proc(route: Route) -> bool:
    return bool(route.sanitize_request or route.sanitize_response or route.sign_again or route.observe_response)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
