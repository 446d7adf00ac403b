"""Owns the order of the checks and how they are run: counted, timed, and closed whatever a step does."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from ext_authz.attempts import Attempts
from ext_authz.check_context import CheckContext, Decision, Step, StepRecord
from ext_authz.steps.channel import ChannelStep
from ext_authz.steps.credential import CredentialStep
from ext_authz.steps.fields import FieldsStep
from ext_authz.steps.head import HeadStep
from ext_authz.steps.limits import LimitsStep
from ext_authz.steps.order import OrderStep
from ext_authz.steps.permission import PermissionStep
from ext_authz.steps.replay import ReplayStep
from ext_authz.steps.route import RouteStep
from ext_authz.steps.user import UserStep
from ext_authz.steps.version import VersionStep
from paymesh.payments.channels.health import ChannelHealth, NothingKnown
from paymesh.payments.credentials.claim import KeyDirectory
from paymesh.payments.credentials.directory import PolicyKeys
from paymesh.payments.denial import Denial, Reason, Unavailable
from paymesh.payments.jose.fetch import Offline
from paymesh.payments.jose.key_source import KeySources
from paymesh.payments.limits.demands import LimitStore
from paymesh.payments.limits.in_process import InProcessLimits
from paymesh.payments.limits.sizing import LimitSizes, in_process_sizes
from paymesh.payments.nonces import InProcessNonces, NonceStore
from paymesh.payments.order_versions import InProcessOrderVersions, OrderVersions
from paymesh.payments.orders import InProcessOrders, OrderStore
from paymesh.payments.users.identify import UserIdentifier
from paymesh.server.logs import error_place

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stores:
    """What the steps ask beside the policy."""

    directory: KeyDirectory
    nonces: NonceStore
    orders: OrderStore
    order_versions: OrderVersions
    limits: LimitStore
    sizes: LimitSizes
    users: UserIdentifier
    attempts: Attempts
    channels: ChannelHealth = field(default=NothingKnown())


def in_process_stores() -> Stores:
    """Fresh ones in this process's memory: no nonce was ever seen, no order begun, no limit used, nobody asked."""
    offline = Offline()
    key_sources = KeySources(offline)
    return Stores(
        PolicyKeys(key_sources),
        InProcessNonces(),
        InProcessOrders(),
        InProcessOrderVersions(),
        InProcessLimits(),
        in_process_sizes(),
        UserIdentifier(offline, key_sources),
        Attempts(None),
    )


def build_pipeline(stores: Stores) -> tuple[Step, ...]:
    """The steps in their order. Each comment says why it stands there."""
    return (
        RouteStep(),  # everything else depends on what the route asks for
        CredentialStep(stores.directory),  # before any work that a stranger could make us do
        PermissionStep(),  # verified parameters say which operation it is; the rest judges that one
        ReplayStep(stores.nonces),  # after the signature: only genuine nonces are stored
        LimitsStep(stores.limits, stores.sizes),  # after replay: a replayed request must not use up tokens
        UserStep(stores.users),  # may ask another service: only for callers inside their limits
        FieldsStep(),  # after the limits: parsing is the dearest work left
        ChannelStep(stores.channels, stores.orders, stores.attempts),  # needs the fields
        LimitsStep(stores.limits, stores.sizes, late=True),  # those that go by what was found since
        HeadStep(),  # only what passes is worth changing; may still refuse a query that cannot be read
        VersionStep(stores.order_versions),  # needs the channel; may find its store away, so before anything is begun
        OrderStep(stores.orders, stores.attempts),  # last: it records an attempt, and nothing may refuse it after that
    )


async def decide(steps: Sequence[Step], context: CheckContext) -> Decision:
    """Run the steps until one denies. An exception is a refusal with 503, and is logged."""
    records: list[StepRecord] = []
    for step in steps:
        denial: Denial | None = None
        verdict = "deny"
        try:
            outcome = await step(context)
        except Unavailable as cause:
            verdict, denial = "unavailable", Denial(Reason.UNAVAILABLE, str(cause))
        except Exception as bug:  # closed: a bug in a step must never let a payment through
            # The exception's text may hold values of the request: its type and place are enough to find the bug.
            fields = {"step": step.name, "error": type(bug).__name__, "place": error_place(bug)}
            _LOG.error("step failed", extra={"fields": fields})
            verdict, denial = "unavailable", Denial(Reason.UNAVAILABLE, f"{type(bug).__name__} in this step")
        else:
            if isinstance(outcome, Denial):
                denial = outcome
            else:
                context = outcome
        if denial is not None:
            records.append(StepRecord(step.name, verdict, f"{denial.reason}: {denial.detail}"))
            return Decision(context, denial, tuple(records))
        records.append(StepRecord(step.name, "pass", context.why))
    return Decision(context, None, tuple(records))
