"""Owns what the end of an exchange says about its order: the attempt is over, and what the answer proves is kept.

Refuses to insist: what the order store cannot take is logged and left to the attempt's lease, as is an attempt whose
end is never told.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter

from paymesh.payments import internal_names as names
from paymesh.payments.denial import Unavailable
from paymesh.payments.orders import Finish, OrderStore, Settled
from paymesh.payments.outcome import Outcome
from paymesh.payments.policy.compiled import Operation
from paymesh.server.access_log import Finished
from paymesh.server.logs import describe_error

_LOG = logging.getLogger(__name__)


class OrderEnds:
    """Closes attempts and settles orders. Implements the access log's `Listener`."""

    def __init__(self, orders: OrderStore, registry: CollectorRegistry) -> None:
        self._orders = orders
        self._closed = Counter(
            "paymesh_ext_authz_attempts_closed", "Attempts whose end was seen.", ["finish"], registry=registry
        )

    async def finished(self, exchange: Finished) -> None:
        said = exchange.decision
        if names.META_ORDER_KEYS in said:
            await self._close(said, read_finish(exchange))
        if names.META_SETTLES_ORDER in said and exchange.outcome == Outcome.SUCCEEDED:
            await self._settle(said)

    async def _close(self, said: Mapping[str, str], finish: Finish) -> None:
        keys = said[names.META_ORDER_KEYS].split("\n")
        try:
            await self._orders.finish(_owner(said), keys, _attempt(said), finish)
        except Unavailable as error:
            _warn("attempt not closed: its lease ends it", said, error)
            return
        self._closed.labels(finish=str(finish)).inc()

    async def _settle(self, said: Mapping[str, str]) -> None:
        settled = Settled.CLOSED if said.get(names.META_OPERATION) == Operation.CLOSE else Settled.PAID
        try:
            await self._orders.settle(_owner(said), said[names.META_SETTLES_ORDER], settled, int(time.time()))
        except Unavailable as error:
            _warn("order not settled: it may be asked for again", said, error)


def read_finish(exchange: Finished) -> Finish:
    """What became of an attempt. Only what is certain is UNSENT or REFUSED."""
    if not exchange.reached_service:
        return Finish.UNSENT
    return Finish.REFUSED if exchange.outcome == Outcome.REFUSED else Finish.DONE


def _owner(said: Mapping[str, str]) -> str:
    return said.get(names.META_MERCHANT, "")


def _attempt(said: Mapping[str, str]) -> str:
    return said.get(names.META_REQUEST_ID, "")


def _warn(event: str, said: Mapping[str, str], error: Unavailable) -> None:
    _LOG.warning(event, extra={"fields": {"request_id": _attempt(said), "error": describe_error(error)}})
