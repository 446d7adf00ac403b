"""Owns the events of payments that leave: the attempt before it does, its end when the access log tells, and at last
that nobody told it.

An answer that ext_proc has read is recorded there, before the caller hears it. What is left for here: exchanges that
had no answer, answers that ext_proc could not record, and checks that were given up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter

from ext_authz.check_context import CheckContext
from ext_authz.tries import Tries
from paymesh.payments import internal_names as names
from paymesh.payments.denial import Unavailable
from paymesh.payments.events.log import EventLog
from paymesh.payments.events.types import MAX_WHY, Attempted, Ended, Notified, Result, ToldBy, result_of
from paymesh.payments.notices import Notice
from paymesh.payments.orders import Settled
from paymesh.payments.outcome import Outcome
from paymesh.payments.policy.compiled import MOVING_MONEY, Operation
from paymesh.server.access_log import Finished

END_MARGIN_S = 10
"""Beyond the route's timeout: an attempt whose end nobody told by then is unknown."""
REAP_EVERY_S = 5.0
_DURING_CHECK = frozenset({"UAEX", "DC", "DR"})
"""Flags of an exchange that may have ended during its check: no answer in time, or the client gone."""
_LOG = logging.getLogger(__name__)
_NOTIFIED: Mapping[Settled, Result] = {Settled.PAID: Result.SUCCEEDED, Settled.CLOSED: Result.REFUSED}


class Attempts:
    """Records attempts. Implements the access log's `Listener`. `events` None: no record is kept."""

    def __init__(self, events: EventLog | None, registry: CollectorRegistry | None = None) -> None:
        self._events = events
        self._tries = Tries(self._give_up)
        self._left = Counter(
            "paymesh_ext_authz_ends_left_to_reaper",
            "Attempts whose end could not be recorded: after their time they are unknown.",
            registry=registry or CollectorRegistry(),
        )

    async def record(self, context: CheckContext) -> str | None:
        """Record that this request is about to leave, durably, and answer None; or the channel that its order may have
        been taken through, with nothing recorded. Raises Unavailable."""
        if self._events is None or not _is_recorded(context):
            return None
        event = _attempted(context)
        try:
            return await self._events.attempt(event)
        except ValueError as error:
            raise Unavailable(str(error)) from error
        except (asyncio.CancelledError, Unavailable):
            # Nothing leaves, and it may have been recorded all the same.
            self._tries.tell_beside(lambda: self._end(event.attempt_id, event.operation, Result.UNSENT, ToldBy.CHECK))
            raise

    async def first(self, merchant: str, operation: Operation, order_no: str) -> Attempted | None:
        """An order's first attempt that may have come to something; None: there is none, or no record is kept.
        Raises Unavailable."""
        if self._events is None:
            return None
        known = await self._events.of_order(merchant, order_no)
        found = (one.attempted for one in known if one.result not in (Result.UNSENT, Result.REFUSED))
        return next((one for one in found if one.operation is operation), None)

    def recorded(self, context: CheckContext) -> bool:
        """Whether `record` keeps a record of this request."""
        return self._events is not None and _is_recorded(context)

    async def notified(self, context: CheckContext, notice: Notice, notice_id: str) -> None:
        """Record a verified notification before its service hears of it. Raises Unavailable."""
        route, caller = context.route, context.caller
        if self._events is None or route is None or caller is None:
            return
        money = notice.facts.money
        await self._events.notify(
            Notified(
                notice_id=notice_id,
                at_us=_now_us(),
                merchant=caller.merchant.id,
                route=route.name,
                channel=route.channels[0].name,
                order_no=notice.facts.order_no or "",
                result=None if notice.settled is None else _NOTIFIED[notice.settled],
                amount=None if money is None else money.amount,
                currency=None if money is None else money.currency,
            )
        )

    async def finished(self, exchange: Finished) -> None:
        said = exchange.decision
        if self._events is None or exchange.ended:
            return
        if names.META_RECORDED in said:
            operation = Operation(said.get(names.META_OPERATION, Operation.PAY))
            await self._tell(said[names.META_REQUEST_ID], operation, read_result(exchange), _why(exchange))
        elif not said and exchange.flags & _DURING_CHECK and exchange.request_id:
            # Envoy never had the decision, so nothing was sent. Of most such requests no attempt was recorded.
            await self._tell(exchange.request_id, Operation.PAY, Result.UNSENT, "Envoy gave the check up")

    async def reap(self) -> None:
        """Say of every attempt whose time is over that its end is unknown, until cancelled. Any worker may."""
        while True:
            await asyncio.sleep(REAP_EVERY_S)
            with suppress(Unavailable):
                await self.reap_once()

    async def reap_once(self) -> None:
        """Raises Unavailable."""
        if self._events is not None:
            for one in await self._events.overdue(_now_us()):
                await self._end(one.attempt_id, one.operation, Result.UNKNOWN, ToldBy.REAPER, "nobody told its end")

    async def close(self) -> None:
        await self._tries.close()

    async def _tell(self, attempt_id: str, operation: Operation, result: Result, why: str) -> None:
        await self._tries.tell(lambda: self._end(attempt_id, operation, result, ToldBy.ACCESS_LOG, why))

    async def _end(self, attempt_id: str, operation: Operation, result: Result, told_by: ToldBy, why: str = "") -> None:
        assert self._events is not None
        ended = Ended(
            attempt_id=attempt_id, at_us=_now_us(), operation=operation, result=result, told_by=told_by, why=why
        )
        await self._events.end(ended)

    def _give_up(self) -> None:
        self._left.inc()
        _LOG.warning("an attempt's end is not recorded: the reaper will say that it is unknown")


def read_result(exchange: Finished) -> Result:
    """What became of an attempt whose answer nobody recorded."""
    if not exchange.reached_service:
        return Result.UNSENT
    return result_of(Outcome(exchange.outcome)) if exchange.outcome else Result.UNKNOWN


def _why(exchange: Finished) -> str:
    flags = ",".join(sorted(exchange.flags)) or "none"
    return f"the exchange ended with status {exchange.status}, flags {flags}"


def _is_recorded(context: CheckContext) -> bool:
    route = context.route
    return route is not None and route.operation in MOVING_MONEY and context.facts.order_no is not None


def _attempted(context: CheckContext) -> Attempted:
    route, caller, facts = context.route, context.caller, context.facts
    assert route is not None
    assert caller is not None
    assert facts.order_no is not None
    channel = context.channel
    fee = None if context.selection is None else context.selection.fee
    service = route.service if channel is None else channel.service
    now_us = _now_us()
    return Attempted(
        attempt_id=context.request.request_id,
        at_us=now_us,
        merchant=caller.merchant.id,
        route=route.name,
        operation=route.operation,
        protocol=str(route.protocol),
        order_no=facts.order_no,
        amount=None if facts.money is None else facts.money.amount,
        currency=None if facts.money is None else facts.money.currency,
        channel=None if channel is None else channel.name,
        service=service or "",
        product=facts.product,
        app_id=facts.app_id or caller.proves.get("app_id"),
        repeats=context.replayed,
        ends_by_us=now_us + route.timeout_ms * 1000 + END_MARGIN_S * 1_000_000,
        policy_version=context.policy.version,
        why="" if context.selection is None else context.selection.why[:MAX_WHY],
        fee=None if fee is None else fee.amount,
        fee_schedule=None if fee is None else fee.schedule,
        begun_at_s=context.begun_at_s,
        original_order_no=facts.original_order_no,
    )


def _now_us() -> int:
    return time.time_ns() // 1000
