"""Owns which channel takes a request: pay routes select one; queries, refunds and closes go where their order went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ext_authz.attempts import Attempts
from ext_authz.check_context import CheckContext
from paymesh.payments.adapters.generic_order import read_order
from paymesh.payments.channels.health import ChannelHealth
from paymesh.payments.channels.payment import Payment
from paymesh.payments.channels.select import select_channel
from paymesh.payments.denial import Denial, Reason, Unavailable
from paymesh.payments.notices import order_key
from paymesh.payments.orders import OrderStore, OrderTerms
from paymesh.payments.policy.compiled import Channel, Operation, Route


@dataclass(frozen=True, slots=True)
class ChannelStep:
    health: ChannelHealth
    orders: OrderStore
    attempts: Attempts
    name: str = "channel"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        route = context.route
        assert route is not None
        if route.follows_channel:
            return await self._followed(context, route)
        if not route.selects_channel:
            return context.having(why=f"none selected: service {route.service}")
        candidates, lacking = _able(context, route)
        selection = select_channel(candidates, route.channel_selection, payment_of(context), self.health)
        if selection.channel is None and selection.out:
            raise Unavailable(selection.why)
        if selection.channel is None:
            return lacking or Denial(Reason.CHANNEL_NONE, selection.why)
        return context.having(channel=selection.channel, selection=selection, why=selection.why)

    async def _followed(self, context: CheckContext, route: Route) -> CheckContext | Denial:
        facts, caller = context.facts, context.caller
        number = facts.original_order_no if route.operation is Operation.REFUND else facts.order_no
        assert caller is not None  # a route without credentials follows no order
        assert number is not None  # refused at load
        record = await self.orders.find(caller.merchant.id, order_key(Operation.PAY, number), context.now_s)
        name, terms = (None, None) if record is None else (record.channel, record.terms)
        if name is None or any(channel.adapted for channel in route.channels):
            # The order store forgets, after its time or with its server; the event log does not.
            first = await self.attempts.first(caller.merchant.id, Operation.PAY, number)
            if first is not None:
                name = first.channel
                terms = OrderTerms(first.amount, first.currency, first.app_id, None, first.began_s)
        if name is None:
            return Denial(Reason.ORDER_UNKNOWN, "the order never passed here")
        channel = next((one for one in route.channels if one.name == name), None)
        if channel is None:
            return Denial(Reason.ORDER_CONFLICT, f"begun through channel {name}, which this route has not")
        begun_at_s = context.now_s if terms is None or terms.begun_at_s is None else terms.begun_at_s
        why = f"{channel.name} has the order"
        return context.having(channel=channel, ordered=terms, begun_at_s=begun_at_s, why=why)


def _able(context: CheckContext, route: Route) -> tuple[Sequence[Channel], Denial | None]:
    """The candidates that could write the order for their provider, and what it lacks for the first of the others."""
    adapted = context.policy.adapted
    if not any(channel.adapted for channel in route.channels):
        return route.channels, None
    able: list[Channel] = []
    lacking = None
    order = read_order(context.document, context.facts, context.now_s, context.request.client_address)
    for channel in route.channels:
        problems: tuple[str, ...] = ()
        if channel.adapted and isinstance(order, Denial):
            problems = order.told
        elif channel.adapted and not isinstance(order, Denial) and order.product in (channel.products or ()):
            problems = adapted[channel.name].adapter.problems(order, adapted[channel.name].identity)
        if not problems:
            able.append(channel)
        elif lacking is None:
            lacking = Denial(Reason.FIELD_INVALID, "; ".join(problems), told=problems)
    return able, lacking


def payment_of(context: CheckContext) -> Payment:
    """What a channel is chosen for. Of a pay route, whose fields have been read."""
    route, facts = context.route, context.facts
    assert route is not None
    assert facts.money is not None  # a pay route without an amount field is refused at load
    return Payment(
        operation=route.operation,
        product=facts.product,
        money=facts.money,
        merchant=None if context.caller is None else context.caller.merchant,
        order_no=facts.order_no or "",
        now_s=context.now_s,
        card=facts.card,
        protocol=route.protocol,
    )
