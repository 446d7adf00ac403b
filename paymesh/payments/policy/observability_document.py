"""Owns how `observability` is written, and what it compiles to. Refuses whatever would name a header or a query."""

from __future__ import annotations

import ipaddress
import re

from pydantic import Field, model_validator

from paymesh.payments.policy.compiled import Tracing, TracingProtocol
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
    zipkin: CollectorDocument | None = Field(None, description="JSON to /api/v2/spans, commonly port 9411.")
    sampling: Weight = Field(100, description="Percent of the requests that are traced, in steps of 0.01.")

    @model_validator(mode="after")
    def _exactly_one(self) -> TracingDocument:
        if (self.opentelemetry is None) == (self.zipkin is None):
            raise ValueError("spans are sent to exactly one of opentelemetry and zipkin")
        return self


class ObservabilityDocument(Document):
    tracing: TracingDocument | None = None


def compile_tracing(document: ObservabilityDocument | None, findings: Findings) -> Tracing | None:
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
    return Tracing(kind, collector.address, collector.port, tracing.sampling)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
