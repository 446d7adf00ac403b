"""Owns what Envoy's access log tells ext_authz: that a request is over, and what became of its order.

The log is lossy: an attempt whose entry never comes is over when its lease ends. Refuses to hold a stream up: what the
order store cannot take is logged and left to the lease.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator

import grpc
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3 import als_pb2, als_pb2_grpc
from prometheus_client import CollectorRegistry, Counter

from paymesh.payments import internal_names as names
from paymesh.payments.denial import Unavailable
from paymesh.payments.orders import Finish, OrderStore, Settled
from paymesh.payments.outcome import Outcome
from paymesh.payments.policy.compiled import Operation
from paymesh.server.logs import describe_error

_LOG = logging.getLogger(__name__)


class AccessLog(als_pb2_grpc.AccessLogServiceServicer):  # type: ignore[misc]
    """`envoy.service.accesslog.v3.AccessLogService`: one stream a worker thread of Envoy."""

    def __init__(self, orders: OrderStore, registry: CollectorRegistry) -> None:
        self._orders = orders
        self._closed = Counter(
            "paymesh_ext_authz_attempts_closed", "Attempts whose end was seen.", ["finish"], registry=registry
        )

    async def StreamAccessLogs(  # noqa: N802 - the method's name in the .proto
        self,
        messages: AsyncIterator[als_pb2.StreamAccessLogsMessage],
        _: grpc.aio.ServicerContext[als_pb2.StreamAccessLogsMessage, als_pb2.StreamAccessLogsResponse],
    ) -> als_pb2.StreamAccessLogsResponse:
        async for message in messages:
            for entry in message.http_logs.log_entry:
                await self._close(entry)
                await self._settle(entry)
        return als_pb2.StreamAccessLogsResponse()

    async def _close(self, entry: accesslog_pb2.HTTPAccessLogEntry) -> None:
        said = entry.common_properties.metadata.filter_metadata.get(names.AUTHZ_FILTER)
        if said is None or names.META_ORDER_KEYS not in said.fields:
            return
        owner, attempt = said.fields[names.META_MERCHANT], said.fields[names.META_REQUEST_ID]
        keys = said.fields[names.META_ORDER_KEYS].string_value.split("\n")
        finish = read_finish(entry)
        try:
            await self._orders.finish(owner.string_value, keys, attempt.string_value, finish)
        except Unavailable as error:
            fields = {"request_id": attempt.string_value, "error": describe_error(error)}
            _LOG.warning("attempt not closed: its lease ends it", extra={"fields": fields})
            return
        self._closed.labels(finish=str(finish)).inc()

    async def _settle(self, entry: accesslog_pb2.HTTPAccessLogEntry) -> None:
        said = entry.common_properties.metadata.filter_metadata.get(names.AUTHZ_FILTER)
        if said is None or names.META_SETTLES_ORDER not in said.fields or read_outcome(entry) != Outcome.SUCCEEDED:
            return
        closes = said.fields[names.META_OPERATION].string_value == Operation.CLOSE
        owner, key = said.fields[names.META_MERCHANT], said.fields[names.META_SETTLES_ORDER]
        try:
            settled = Settled.CLOSED if closes else Settled.PAID
            await self._orders.settle(owner.string_value, key.string_value, settled, int(time.time()))
        except Unavailable as error:
            fields = {
                "request_id": said.fields[names.META_REQUEST_ID].string_value,
                "error": describe_error(error),
            }
            _LOG.warning("order not settled: it may be asked for again", extra={"fields": fields})


def read_outcome(entry: accesslog_pb2.HTTPAccessLogEntry) -> str:
    """What ext_proc read of the answer; empty if it did not."""
    observed = entry.common_properties.metadata.filter_metadata.get(names.OUTCOME_NAMESPACE)
    return "" if observed is None else str(observed.fields[names.META_OUTCOME].string_value)


def read_finish(entry: accesslog_pb2.HTTPAccessLogEntry) -> Finish:
    """What became of an attempt. Only what is certain is UNSENT or REFUSED."""
    common = entry.common_properties
    if not common.HasField("upstream_remote_address") or common.response_flags.upstream_connection_failure:
        # No host was chosen, or none could be connected to: the service cannot have seen it.
        return Finish.UNSENT
    return Finish.REFUSED if read_outcome(entry) == Outcome.REFUSED else Finish.DONE
