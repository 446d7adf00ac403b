"""Owns which version answers for an order that began before a release moved its merchant: the one that it began on.

Asks nobody where no version stays for its orders: `context_extensions` of the route say so, and without them a check
costs nothing more. The version is learnt from the access log (`learnt_versions.py`), which is lossy: an order whose
version is not known goes where the split sends it, as a new one does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ext_authz.check_context import CheckContext
from paymesh.payments import internal_names as names
from paymesh.payments.denial import Denial
from paymesh.payments.notices import order_key
from paymesh.payments.order_versions import OrderVersions
from paymesh.payments.policy.compiled import Operation, Route

_ASKING = frozenset({Operation.PAY, Operation.QUERY, Operation.CLOSE, Operation.REFUND})


@dataclass(frozen=True, slots=True)
class VersionStep:
    versions: OrderVersions
    name: str = "version"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        route, caller = context.route, context.caller
        assert route is not None
        if route.operation not in _ASKING or not (staying := _staying(context, route)):
            return context.having(why="no version stays for its orders")
        number = context.facts.original_order_no if route.operation is Operation.REFUND else context.facts.order_no
        if caller is None or number is None:
            return context.having(why="about no order")
        # Closed where the store is away, as the order step is for its own: the version that the split would choose may
        # not have the order, and its "no such order" invites whoever asked to pay again.
        found = await self.versions.find(caller.merchant.id, order_key(Operation.PAY, number), context.now_s)
        if found is None:
            return context.having(why="no version is known to have the order")
        if found.service not in staying:
            return context.having(why=f"the order began at another service: {found.service}")
        if found.version not in staying[found.service]:
            return context.having(why=f"{found.service} {found.version} has the order, and does not stay for it")
        return context.having(order_version=found, why=f"{found.service} {found.version} has the order")


def _staying(context: CheckContext, route: Route) -> Mapping[str, frozenset[str]]:
    """By service that may take the request: versions of the policy that stay, if there is one."""
    extensions, policy = context.request.extensions, context.policy
    found = {}
    for service in _services(context, route):
        listed = extensions.get(names.ORDERS_STAY_EXTENSION + service)
        if listed is not None:
            stay = frozenset(listed.split(",")) & {one.name for one in policy.services[service].versions}
            if stay:
                found[service] = stay
    return found


def _services(context: CheckContext, route: Route) -> Iterator[str]:
    if route.selects_channel:
        # Not the selected one's alone: a repeat follows its first attempt, whose channel only the order step learns.
        yield from (channel.service for channel in route.channels)
    elif context.channel is not None:
        yield context.channel.service
    elif route.service is not None:
        yield route.service
