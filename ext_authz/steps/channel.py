"""Owns which channel takes a payment. Only pay routes select one."""

from __future__ import annotations

from dataclasses import dataclass

from ext_authz.check_context import CheckContext
from paymesh.payments.channels import select_channel
from paymesh.payments.denial import Denial, Reason


@dataclass(frozen=True, slots=True)
class ChannelStep:
    name: str = "channel"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        route, facts = context.route, context.facts
        assert route is not None
        if not route.is_pay:
            return context.having(why=f"none selected: service {route.service}")
        assert facts.money is not None  # a pay route without an amount field is refused at load
        selection = select_channel(route.channels, route.operation, facts.product, facts.money)
        if selection.channel is None:
            return Denial(Reason.CHANNEL_NONE, selection.why)
        return context.having(channel=selection.channel, why=selection.why)
