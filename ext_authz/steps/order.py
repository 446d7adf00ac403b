"""Owns one order being begun once: in progress, repeated, or another one under the same number; and notifications
being about an order that was begun here.

It stands last: what it records is an attempt that leaves, so no later refusal has to undo it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ext_authz.attempts import Attempts
from ext_authz.check_context import CheckContext
from ext_authz.steps.channel import payment_of
from paymesh.payments.channels.select import followed
from paymesh.payments.credentials.claim import Authenticated
from paymesh.payments.denial import Denial, Reason, Unavailable
from paymesh.payments.idempotency_key import IdempotencyKeyProblem, parse_idempotency_key
from paymesh.payments.notices import mismatch, order_key, read_notice
from paymesh.payments.orders import Attempt, BeginAnswer, Begun, Finish, OrderStore, OrderTerms, Settled
from paymesh.payments.policy.compiled import (
    MOVING_MONEY,
    Channel,
    IdempotencyKey,
    Operation,
    Protocol,
    Route,
    UnknownOrders,
)
from paymesh.payments.request import RepeatedHeader

ORDER_RECORD_S = 7 * 86_400
"""How long an order is remembered after its latest attempt; longer than any provider repeats a notification."""
LEASE_MARGIN_S = 10
"""Beyond the route's timeout: an attempt that nobody closed by then is over, its outcome unknown."""
RETRY_AFTER_S = 1
_IDEMPOTENCY_KEY = "idempotency-key"
_FORGETTING: set[asyncio.Task[None]] = set()
"""The event loop holds tasks weakly."""


@dataclass(frozen=True, slots=True)
class OrderStep:
    orders: OrderStore
    attempts: Attempts
    name: str = "order"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        route, caller = context.route, context.caller
        assert route is not None
        if caller is None:
            return context.having(why="no order is begun")
        if route.operation is Operation.NOTIFY:
            return await self._notified(context, route, caller)
        attempts = _attempts(context, route, caller)
        if isinstance(attempts, Denial):
            return attempts
        if not attempts:
            return context.having(why="no order is begun")
        try:
            answer = await self.orders.begin(attempts, context.now_s)
        except (asyncio.CancelledError, Unavailable):
            # Envoy or the store gave up, so nothing leaves: whatever was recorded all the same must not block a repeat.
            _forget_later(self.orders, attempts)
            raise
        if answer.begun is Begun.CONFLICT:
            return Denial(Reason.ORDER_CONFLICT, "begun before with another payload")
        if answer.begun is Begun.IN_PROGRESS:
            detail = "the first attempt is not over"
            return Denial(Reason.ORDER_IN_PROGRESS, detail, retry_after_s=RETRY_AFTER_S)
        keys = tuple(attempt.key for attempt in attempts)
        earlier = None if answer.record is None else answer.record.channel
        context = context.having(order_keys=keys)
        if route.open_order and answer.settled is not None:
            # What is settled after `begin` answered is harmless: the channel refuses it as it would without us.
            await self.orders.finish(caller.merchant.id, keys, context.request.request_id, Finish.UNSENT)
            reason = Reason.ORDER_PAID if answer.settled is Settled.PAID else Reason.ORDER_CLOSED
            return Denial(reason, f"the order is known here as {answer.settled}")
        if earlier is not None and context.channel is not None and earlier != context.channel.name:
            channel = context.policy.channels.get(earlier)
            if channel is None or channel not in route.channels:
                await self.orders.finish(caller.merchant.id, keys, context.request.request_id, Finish.UNSENT)
                return Denial(Reason.ORDER_CONFLICT, f"begun through channel {earlier}, which this route has no more")
            context = _following(context, channel)
        context = await self._begun_at(context, route, caller, answer)
        if answer.begun is Begun.REPEAT:
            context = context.having(replayed=True, why="repeated: marked as a replay, its channel follows the first")
        else:
            context = context.having(why=f"begun, kept under {', '.join(key.partition(':')[0] for key in keys)}")
        try:
            recorded = await self._recorded(context, route)
        except (asyncio.CancelledError, Unavailable):
            _forget_later(self.orders, attempts)
            raise
        if isinstance(recorded, Denial):
            await self.orders.finish(caller.merchant.id, keys, context.request.request_id, Finish.UNSENT)
        return recorded

    async def _begun_at(
        self, context: CheckContext, route: Route, caller: Authenticated, answer: BeginAnswer
    ) -> CheckContext:
        """With the time of the first attempt, which the provider is told again in each repeat. Raises Unavailable."""
        if route.operation not in MOVING_MONEY:
            return context
        terms = answer.record.terms if answer.begun is Begun.REPEAT and answer.record is not None else None
        begun_at_s = context.now_s if terms is None or terms.begun_at_s is None else terms.begun_at_s
        if context.channel is not None and context.channel.adapted and context.facts.order_no is not None:
            first = await self.attempts.first(caller.merchant.id, route.operation, context.facts.order_no)
            begun_at_s = begun_at_s if first is None else first.began_s
        return context.having(begun_at_s=begun_at_s)

    async def _recorded(self, context: CheckContext, route: Route) -> CheckContext | Denial:
        """With the attempt in the event log, which knows of orders that the order store has lost."""
        earlier = await self.attempts.record(context)
        if earlier is not None:
            channel = context.policy.channels.get(earlier)
            if channel is None or channel not in route.channels:
                return Denial(Reason.ORDER_CONFLICT, f"begun through channel {earlier}, which this route has no more")
            why = f"repeated: attempted before through channel {earlier}, which it follows"
            context = _following(context, channel).having(replayed=True, why=why)
            if await self.attempts.record(context) is not None:
                raise Unavailable("event log: the order's channel changes")
        return context.having(recorded=self.attempts.recorded(context))

    async def _notified(self, context: CheckContext, route: Route, caller: Authenticated) -> CheckContext | Denial:
        notice = read_notice(route.protocol, caller.document)
        if isinstance(notice, Denial):
            return notice
        for key in notice.order_keys:
            record = await self.orders.find(caller.merchant.id, key, context.now_s)
            if record is not None and record.terms is not None:
                refused = mismatch(record.terms, notice)
                if refused is not None:
                    return refused
                await self.attempts.notified(context, notice, _notice_id(caller.document))
                if notice.settled is not None and context.policy.settles_orders:
                    await self.orders.settle(caller.merchant.id, key, notice.settled, context.now_s)
                return context.having(order_matched=True, why="order, amount, app and seller agree")
        if route.unknown_orders is UnknownOrders.REFUSE:
            return Denial(Reason.ORDER_UNKNOWN, "the order never passed here")
        await self.attempts.notified(context, notice, _notice_id(caller.document))
        return context.having(why="the order never passed here; the route lets it pass")


def _following(context: CheckContext, channel: Channel) -> CheckContext:
    selection = None if context.selection is None else followed(channel, payment_of(context))
    return context.having(channel=channel, selection=selection)


def _notice_id(document: object) -> str:
    """The same for what is notified again: Alipay's own id, since its times change; else all that is said."""
    assert isinstance(document, Mapping)  # a scheme gives nothing else
    notify_id = document.get("notify_id")
    said = json.dumps(document, sort_keys=True, default=str) if notify_id is None else str(notify_id)
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _forget_later(orders: OrderStore, attempts: Sequence[Attempt]) -> None:
    first = attempts[0]

    async def forget() -> None:
        with contextlib.suppress(Unavailable):  # then the lease ends it
            keys = [attempt.key for attempt in attempts]
            await orders.finish(first.owner, keys, first.attempt_id, Finish.UNSENT)

    # In a context of its own: the check's budget of waiting is spent.
    task = asyncio.get_running_loop().create_task(forget(), context=contextvars.Context())
    _FORGETTING.add(task)
    task.add_done_callback(_FORGETTING.discard)


def _attempts(context: CheckContext, route: Route, caller: Authenticated) -> Sequence[Attempt] | Denial:
    """What has to be begun: the order, the idempotency key, both or nothing."""
    found = []
    facts = context.facts
    if route.operation in MOVING_MONEY and facts.order_no is not None:
        money = facts.money
        terms = OrderTerms(
            amount=None if money is None else money.amount,
            currency=None if money is None else money.currency,
            app_id=facts.app_id or caller.proves.get("app_id"),
            seller_id=caller.proves.get("seller_id") or caller.proves.get("mchid") or caller.proves.get("mer_id"),
            begun_at_s=context.now_s,
        )
        # The payload that counts is what was decided on: expiry times and scenes may differ in a repeat.
        payload = (terms.amount, terms.currency, terms.app_id, facts.product)
        found.append(_attempt(context, order_key(route.operation, facts.order_no), payload, terms))
    try:
        header = context.request.header(_IDEMPOTENCY_KEY)
    except RepeatedHeader:
        return Denial(Reason.IDEMPOTENCY_KEY_INVALID, "the header came more than once")
    if header is None:
        if route.idempotency_key is IdempotencyKey.REQUIRED:
            return Denial(Reason.IDEMPOTENCY_KEY_MISSING, "the route requires the Idempotency-Key header")
        return found
    if route.protocol is not Protocol.PAYMESH or context.request.method in ("GET", "HEAD"):
        return found  # no provider's protocol has it, and its meaning there is the service's
    key = parse_idempotency_key(header)
    if isinstance(key, IdempotencyKeyProblem):
        return Denial(Reason.IDEMPOTENCY_KEY_INVALID, str(key))
    request = context.request
    body = (request.method, request.target, hashlib.sha256(request.body).hexdigest())
    return [*found, _attempt(context, f"idempotency:{key}", body, None)]


def _attempt(context: CheckContext, key: str, payload: Sequence[object], terms: OrderTerms | None) -> Attempt:
    route, caller = context.route, context.caller
    assert route is not None
    assert caller is not None
    return Attempt(
        owner=caller.merchant.id,
        key=key,
        fingerprint=hashlib.sha256("\0".join(map(str, payload)).encode("utf-8", "surrogateescape")).hexdigest(),
        attempt_id=context.request.request_id,
        terms=terms,
        channel=None if context.channel is None else context.channel.name,
        lease_s=-(-route.timeout_ms // 1000) + LEASE_MARGIN_S,
        expires_at_s=context.now_s + ORDER_RECORD_S,
    )
