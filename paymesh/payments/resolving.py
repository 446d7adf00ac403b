"""Owns asking a channel what became of an attempt whose end nobody told. Refuses to guess: what the channel does not
say for certain stays unknown.

Only payments through a channel with an adapter can be asked about: of others the gateway has no key to ask with. A
refusal counts only when the attempt's time is over, since until then the request might still arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from paymesh.payments.adapters.adapted import AdaptedChannel
from paymesh.payments.adapters.contract import GenericQuery, Stamp
from paymesh.payments.denial import Denial, Unavailable
from paymesh.payments.events.log import EventLog, Known
from paymesh.payments.events.types import MAX_WHY, Ended, Result, ToldBy, result_of
from paymesh.payments.jose.fetch import HttpFetch
from paymesh.payments.money import Money
from paymesh.payments.outcome import Outcome
from paymesh.payments.policy.compiled import Operation, Policy

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class Answered:
    """What the channel said. `result` None: nothing certain, so that the attempt stays as it is."""

    known: Known
    result: Result | None
    why: str


@dataclass(frozen=True, slots=True)
class Resolver:
    """`addresses`: base URLs by service, such as http://127.0.0.1:9211; others are the policy's endpoints."""

    policy: Policy
    log: EventLog
    fetch: HttpFetch
    now_us: Callable[[], int]
    nonce: Callable[[], str]
    addresses: Mapping[str, str]

    async def resolve(self, known: Known) -> Answered:
        """Ask about one attempt, and record what is certain. Raises Unavailable if the event log is away."""
        result, why = await self._ask(known)
        if result is not None:
            ended = Ended(
                attempt_id=known.attempted.attempt_id,
                at_us=self.now_us(),
                operation=known.attempted.operation,
                result=result,
                told_by=ToldBy.RESOLVER,
                why=why[:MAX_WHY],
            )
            await self.log.end(ended)
        return Answered(known, result, why)

    async def _ask(self, known: Known) -> tuple[Result | None, str]:
        one = known.attempted
        now_us = self.now_us()
        if known.result is None and now_us <= one.ends_by_us:
            return None, "still under way"
        channel = None if one.channel is None else self.policy.adapted.get(one.channel)
        if channel is None or one.channel is None:
            return None, f"channel {one.channel or '-'} has no adapter to ask with"
        if one.operation is not Operation.PAY:
            return None, f"a {one.operation} cannot be asked about"
        query = self._query(known)
        if query is None:
            return None, f"merchant {one.merchant} is not in the policy"
        stamp = Stamp(now_us // 1_000_000, self.nonce())
        written = channel.adapter.write_query(query, channel.identity, stamp)
        if isinstance(written, Denial):
            return None, written.detail
        base = self._base_url(one.channel)
        if base is None:
            return None, f"service {one.service} has no address (--address {one.service}=URL)"
        headers = {**written.headers, **_host(channel)}
        try:
            heard = await self.fetch.fetch(
                written.method, base + written.target, headers, written.body, TIMEOUT_S, MAX_ANSWER_BYTES
            )
        except Unavailable as error:
            return None, str(error)
        stamp = Stamp(self.now_us() // 1_000_000, self.nonce())
        said = channel.adapter.read_answer(
            query.expected(one.channel), heard.status, heard.headers, heard.body, channel.identity, stamp
        )
        if said.outcome is Outcome.UNKNOWN:
            return None, said.why
        if said.outcome is Outcome.REFUSED and now_us <= one.ends_by_us:
            return None, "refused so far, and its time is not over"
        return result_of(said.outcome), said.why

    def _query(self, known: Known) -> GenericQuery | None:
        one = known.attempted
        merchant = self.policy.merchants.get(one.merchant)
        if merchant is None:
            return None
        money = None if one.amount is None or one.currency is None else Money(one.amount, one.currency)
        return GenericQuery(merchant.order_no_prefix + one.order_no, one.began_s, money)

    def _base_url(self, channel: str) -> str | None:
        name = self.policy.channels[channel].service
        if name in self.addresses:
            return self.addresses[name].rstrip("/")
        # Any version asks the same provider.
        endpoints = [one for version in self.policy.services[name].versions for one in version.endpoints]
        if not endpoints:
            return None
        address = endpoints[0].address
        return f"http://{f'[{address}]' if ':' in address else address}:{endpoints[0].port}"


def _host(channel: AdaptedChannel) -> dict[str, str]:
    return {"host": channel.host} if channel.host else {}
