"""Owns what the steps hand on: a frozen context that gains one typed fact a step, and the decision at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from paymesh.payments.channels.select import Selection
from paymesh.payments.credentials.claim import Authenticated
from paymesh.payments.denial import Denial
from paymesh.payments.fields.facts import OrderFacts
from paymesh.payments.fields.sanitize_head import NO_CHANGES, Head
from paymesh.payments.order_versions import OrderVersion
from paymesh.payments.orders import OrderTerms
from paymesh.payments.policy.compiled import Channel, Policy, Route
from paymesh.payments.request import Request
from paymesh.payments.users.user import User


@dataclass(frozen=True)
class CheckContext:
    """One request on its way through the steps. The policy is the one it began with, whatever is reloaded meanwhile.

    Without slots, so that `having` can copy it in a microsecond: `dataclasses.replace` was a third of a check's time.
    """

    request: Request
    policy: Policy = field(repr=False)
    now_s: int
    """Wall clock, Unix seconds."""
    monotonic_ns: int
    route: Route | None = None
    caller: Authenticated | None = None
    replayed: bool = False
    limits_shadowed: tuple[str, ...] = ()
    """Names of the limits in shadow mode that would have refused."""
    limits_without_store: tuple[str, ...] = ()
    """Names of the limits whose `on_error` decided, for shared state could not be asked."""
    held: tuple[str, ...] = ()
    """What its limits hold until its end, a word each; no caller's text in it."""
    timed: tuple[str, ...] = ()
    """The latency limits that its duration belongs to: the limit's name, a space, the service or channel."""
    facts: OrderFacts = field(default=OrderFacts(), repr=False)
    document: object = field(default=None, repr=False)
    """The parsed body, where somebody looks into it after its fields were read."""
    channel: Channel | None = None
    """The channel that takes the request; of routes that go by channel."""
    selection: Selection | None = None
    """How it was chosen; pay routes only."""
    ordered: OrderTerms | None = field(default=None, repr=False)
    """Of a query, refund or close that follows its order: what was ordered."""
    begun_at_s: int | None = None
    """Unix seconds of the first attempt of the order, or of the refund."""
    order_version: OrderVersion | None = None
    """The version that goes on answering for the order that the request is about."""
    user: User | None = None
    """The person, where the route asks a user provider."""
    order_keys: tuple[str, ...] = field(default=(), repr=False)
    """Under which names this attempt stands in the order store; whoever sees its end closes them."""
    recorded: bool = False
    """An attempt stands in the event log, and waits for its end."""
    order_matched: bool = False
    """A notification's order was found here, and agrees."""
    head: Head = NO_CHANGES
    """What Envoy is to change in path, query and headers before the service sees them."""
    why: str = ""
    """What the last step has to say for itself; names and counts, never values."""

    def having(self, **facts: object) -> CheckContext:
        """The same context with these facts. TypeError for a name that is no field."""
        if not facts.keys() <= self.__dict__.keys():
            raise TypeError(f"no fields: {sorted(facts.keys() - self.__dict__.keys())}")
        made = object.__new__(CheckContext)
        made.__dict__.update(self.__dict__)
        made.__dict__.update(facts)
        return made


class Step(Protocol):
    """One question. Raises Unavailable where it cannot be decided; anything else raised is a bug, and a refusal too."""

    @property
    def name(self) -> str: ...

    async def __call__(self, context: CheckContext) -> CheckContext | Denial: ...


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What a step decided and why, for the decision log and `paymesh explain`."""

    step: str
    verdict: str
    """pass, deny or unavailable."""
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The end of a check. `context` holds whatever was found until then; `denial` None means the request may pass."""

    context: CheckContext
    denial: Denial | None
    steps: tuple[StepRecord, ...]
