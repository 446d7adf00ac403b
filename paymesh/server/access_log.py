"""Owns the receiving end of Envoy's access log over gRPC: an entry becomes a `Finished`, and every listener is told.

Refuses to let one listener stop the stream, the entries behind, or the other listeners; and to keep what it does not
need: Envoy sends path and query of each request, which end here. The log is lossy (Envoy drops what a slow or absent
receiver cannot take), so a listener may never hear of an end, and has a lease for that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import grpc
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3 import als_pb2, als_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry, Counter

from paymesh.payments import internal_names as names
from paymesh.server.logs import describe_error

_LOG = logging.getLogger(__name__)
MAX_AT_ONCE = 256
"""Entries that listeners work on at the same time. Further ones wait, and Envoy drops what its buffer cannot keep."""

FLAGS: Mapping[str, str] = {
    "failed_local_healthcheck": "LH",
    "no_healthy_upstream": "UH",
    "upstream_request_timeout": "UT",
    "local_reset": "LR",
    "upstream_remote_reset": "UR",
    "upstream_connection_failure": "UF",
    "upstream_connection_termination": "UC",
    "upstream_overflow": "UO",
    "no_route_found": "NR",
    "delay_injected": "DI",
    "fault_injected": "FI",
    "rate_limited": "RL",
    "unauthorized_details": "UAEX",
    "rate_limit_service_error": "RLSE",
    "downstream_connection_termination": "DC",
    "upstream_retry_limit_exceeded": "URX",
    "stream_idle_timeout": "SI",
    "invalid_envoy_request_headers": "IH",
    "downstream_protocol_error": "DPE",
    "upstream_max_stream_duration_reached": "UMSDR",
    "response_from_cache_filter": "RFCF",
    "no_filter_config_found": "NFCF",
    "duration_timeout": "DT",
    "upstream_protocol_error": "UPE",
    "no_cluster_found": "NC",
    "overload_manager": "OM",
    "dns_resolution_failure": "DF",
    "downstream_remote_reset": "DR",
}
"""Fields of `envoy.data.accesslog.v3.ResponseFlags` by the short names of %RESPONSE_FLAGS% in Envoy's text logs."""


@dataclass(frozen=True, slots=True)
class Finished:
    """One exchange that is over. Durations are seconds, measured by Envoy."""

    request_id: str
    """Empty if there is none. Envoy mints it where it removes the client's own."""
    status: int
    """Of the answer, whoever gave it; 0 if the client heard none."""
    flags: frozenset[str]
    """Envoy's short names, such as DC, UF, UT."""
    duration_s: float
    """From the request's first byte to the last that the client was sent; to the end, if it was sent nothing."""
    service_s: float | None
    """From the last byte that the service was sent to the first that it answered; None if it never answered."""
    upstream_cluster: str
    """Empty if none was chosen."""
    reached_service: bool
    """False only where it is certain that no service saw the request."""
    decision: Mapping[str, str] = field(repr=False)
    """What ext_authz said in its metadata; empty if it never decided."""
    outcome: str
    """What ext_proc read of the answer: an `Outcome`; empty if it did not."""
    ended: bool = False
    """ext_proc has recorded how the attempt ended."""
    fault: str = ""
    """Whose fault it is that no money moved, as ext_proc read it: a `Fault`; empty if it did not."""


class Listener(Protocol):
    """Told of every entry, of many at the same time."""

    async def finished(self, exchange: Finished) -> None:
        """Whatever this raises is logged without its text and troubles nobody else."""
        ...


class AccessLogReceiver(als_pb2_grpc.AccessLogServiceServicer):  # type: ignore[misc]
    """`envoy.service.accesslog.v3.AccessLogService`: one stream a worker thread of Envoy."""

    def __init__(self, listeners: Sequence[Listener], registry: CollectorRegistry) -> None:
        self._listeners = tuple(listeners)
        self._room = asyncio.Semaphore(MAX_AT_ONCE)
        self._telling: set[asyncio.Task[None]] = set()
        entries = Counter(
            "paymesh_access_log_entries",
            "Exchanges that Envoy's access log told the end of, by whether ext_authz had decided.",
            ["decided"],
            registry=registry,
        )
        self._decided, self._undecided = entries.labels(decided="yes"), entries.labels(decided="no")

    async def StreamAccessLogs(  # noqa: N802 - the method's name in the .proto
        self,
        messages: AsyncIterator[als_pb2.StreamAccessLogsMessage],
        _: grpc.aio.ServicerContext[als_pb2.StreamAccessLogsMessage, als_pb2.StreamAccessLogsResponse],
    ) -> als_pb2.StreamAccessLogsResponse:
        async for message in messages:
            for entry in message.http_logs.log_entry:
                if not entry.common_properties.intermediate_log_entry:
                    await self._take(read_entry(entry))
        await self.close()
        return als_pb2.StreamAccessLogsResponse()

    async def close(self) -> None:
        """Wait until the listeners are done with what has come so far."""
        if self._telling:
            await asyncio.wait(self._telling)

    async def _take(self, exchange: Finished) -> None:
        (self._decided if exchange.decision else self._undecided).inc()
        await self._room.acquire()
        # A task of its own: entries do not wait for each other's store, and outlive a stream that Envoy breaks off.
        task = asyncio.create_task(self._tell(exchange))
        self._telling.add(task)
        task.add_done_callback(self._told)

    def _told(self, task: asyncio.Task[None]) -> None:
        self._telling.discard(task)
        self._room.release()

    async def _tell(self, exchange: Finished) -> None:
        for listener in self._listeners:
            try:
                await listener.finished(exchange)
            except Exception as error:
                fields = {
                    "listener": type(listener).__name__,
                    "request_id": exchange.request_id,
                    "error": describe_error(error),
                }
                _LOG.error("a listener of the access log failed", extra={"fields": fields})


def read_entry(entry: accesslog_pb2.HTTPAccessLogEntry) -> Finished:
    """What an entry says, at a cost of microseconds: it is made once a request."""
    common = entry.common_properties
    flags = _read_flags(common.response_flags) if common.HasField("response_flags") else frozenset()
    metadata = common.metadata.filter_metadata
    observed = _read_strings(metadata.get(names.OUTCOME_NAMESPACE))
    return Finished(
        request_id=entry.request.request_id,
        status=entry.response.response_code.value,
        flags=flags,
        duration_s=_read_duration(common),
        service_s=_read_service_time(common),
        # Where no host was found only the tag tells it, of a log that has it.
        upstream_cluster=common.upstream_cluster or common.custom_tags.get(names.CLUSTER_TAG, ""),
        # Without an address no host was chosen; with this flag none could be connected to.
        reached_service=common.HasField("upstream_remote_address") and "UF" not in flags,
        decision=_read_strings(metadata.get(names.AUTHZ_FILTER)),
        outcome=observed.get(names.META_OUTCOME, ""),
        ended=names.META_ENDED in observed,
        fault=observed.get(names.META_FAULT, ""),
    )


def _read_flags(flags: accesslog_pb2.ResponseFlags) -> frozenset[str]:
    # A later Envoy's flag has no short name here; its long one is bounded too.
    return frozenset(FLAGS.get(field.name, field.name) for field, _ in flags.ListFields())


def _read_duration(common: accesslog_pb2.AccessLogCommon) -> float:
    if common.HasField("time_to_last_downstream_tx_byte"):
        return _seconds(common.time_to_last_downstream_tx_byte)
    return _seconds(common.duration)


def _read_service_time(common: accesslog_pb2.AccessLogCommon) -> float | None:
    if not common.HasField("time_to_first_upstream_rx_byte"):
        return None
    # A service may answer before it has read everything: it took no time then.
    return max(0.0, _seconds(common.time_to_first_upstream_rx_byte) - _seconds(common.time_to_last_upstream_tx_byte))


def _read_strings(said: object) -> dict[str, str]:
    fields = getattr(said, "fields", None)
    if fields is None:
        return {}
    return {key: value.string_value for key, value in fields.items() if value.HasField("string_value")}


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
