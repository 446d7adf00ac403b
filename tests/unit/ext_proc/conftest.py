"""A hand-built policy with one route of each sort that ext_proc meets."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from prometheus_client import CollectorRegistry

from ext_proc.converting import Freshness
from ext_proc.record import Record
from ext_proc.stream import ProcessingStream
from paymesh.payments.bodies.limits import BodyLimits, Format, Reading
from paymesh.payments.policy.callers import Scheme
from paymesh.payments.policy.compiled import Fields, Operation, PathKind, Policy, Protocol, Route, RouteMatch
from paymesh.payments.policy.field_rules import MaskKind, SanitizeAction, SanitizeRule, UnreadableAnswers
from paymesh.payments.signers import Signer

NOW_S = 1_790_000_000
NONCE = "n0nce"
MAX_ANSWER_BYTES = 1000
_PHONE = SanitizeRule(SanitizeAction.MASK, ("payer", "phone"), kind=MaskKind.PHONE)
_CVV = SanitizeRule(SanitizeAction.DROP, ("card", "cvv"))


def route(name: str, protocol: Protocol = Protocol.PAYMESH, operation: Operation = Operation.PAY) -> Route:
    """A route that observes answers and changes nothing."""
    return Route(
        name=name,
        match=RouteMatch(PathKind.EXACT, f"/{name}", None, frozenset({"POST"})),
        operation=operation,
        schemes=(Scheme.HMAC,),
        protocol=protocol,
        fields=Fields(),
        rate_limits=(),
        channels=(),
        service="trade",
        sanitize_request=(),
        observe_response=True,
        timeout_ms=1000,
        response_reading=Reading(limits=BodyLimits(MAX_ANSWER_BYTES)),
    )


@pytest.fixture(scope="session")
def signer() -> Signer:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return Signer(key, "PUB_KEY_ID_1", "")


@pytest.fixture
def policy(signer: Signer) -> Policy:
    answered = replace(route("answered"), sanitize_response=(_PHONE,))
    lookup = replace(answered, name="lookup", operation=Operation.QUERY)
    alipay = route("alipay", Protocol.ALIPAY_V2)
    routes = (
        replace(route("pay"), sanitize_request=(_PHONE, _CVV)),
        replace(route("wechat", Protocol.WECHAT_V3), sanitize_request=(_PHONE,)),
        replace(alipay, sanitize_request=(_PHONE,), signed_parameters=(("method", "alipay.trade.pay"),)),
        replace(route("notify", operation=Operation.NOTIFY), observe_response=False),
        answered,
        lookup,
        replace(lookup, name="lenient", unreadable_answers=UnreadableAnswers.PASS),
        replace(answered, name="unobserved", observe_response=False),
        replace(route("signed", Protocol.WECHAT_V3, Operation.QUERY), sanitize_response=(_PHONE,), sign_again=True),
        replace(
            alipay,
            name="alipay-signed",
            sign_again=True,
            response_reading=Reading(limits=BodyLimits(MAX_ANSWER_BYTES), always=Format.JSON),
            signed_parameters=(("method", "alipay.trade.pay"),),
        ),
        replace(route("unsignable"), sign_again=True),
    )
    signers = dict.fromkeys((Protocol.WECHAT_V3, Protocol.ALIPAY_V2, Protocol.PAYMESH), signer)
    by_name = {found.name: found for found in routes}
    return Policy("v1", routes, {}, {}, {}, {}, {}, {}, {}, {}, signers, by_name)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def record(registry: CollectorRegistry) -> Record:
    return Record(registry)


@pytest.fixture
def begin(policy: Policy, record: Record) -> Callable[[], ProcessingStream]:
    """A new stream, its time and nonce known."""
    return lambda: ProcessingStream(policy, record, Freshness(lambda: NOW_S, lambda: NONCE))


@pytest.fixture
def stream(begin: Callable[[], ProcessingStream]) -> ProcessingStream:
    return begin()
