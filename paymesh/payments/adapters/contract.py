"""Owns what an adapter is: generic orders in, a provider's signed requests out; its verified answers in, generic ones
out. Refuses I/O, clocks and randomness: the time and the nonce come with each call (`Stamp`).

An adapter believes nothing that its provider did not sign, and nothing about another order than the one asked about:
such an answer is `unknown`, whatever it says. docs/adding-a-channel.md tells how to write one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from paymesh.payments.credentials.claim import decode_base64
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.money import Money
from paymesh.payments.outcome import Fault, Outcome, Reading
from paymesh.payments.policy.callers import CredentialKey
from paymesh.payments.policy.certificates import CertificateTrust
from paymesh.payments.policy.compiled import Operation
from paymesh.payments.secrets import Secret
from paymesh.payments.signers import Signer

STATUSES: Mapping[Outcome, str] = {
    Outcome.ACCEPTED: "ACCEPTED",
    Outcome.SUCCEEDED: "SUCCEEDED",
    Outcome.REFUSED: "REFUSED",
    Outcome.UNKNOWN: "PENDING",
}
"""`status` of the generic answer. PENDING: ask again, never pay again under another number."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a message is written or read (Unix seconds), and a nonce that was never used before."""

    now_s: int
    nonce: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What an answer must be about; enough to read it, in another process and without anything personal."""

    operation: Operation
    channel: str
    order_no: str
    money: Money | None = None
    """The order's; a refund's own for a refund. None: not known, so not compared."""
    product: str | None = None
    refund_no: str | None = None


@dataclass(frozen=True, slots=True)
class GenericOrder:
    """A payment as a generic merchant asks for it. Personal and one-time values are masked when printed."""

    order_no: str
    money: Money
    product: str | None
    begun_at_s: int
    """Unix seconds of the order's FIRST attempt, the same in each repeat: UnionPay knows an order by it too."""
    subject: str = ""
    notify_url: str = ""
    client_ip: str = ""
    expires_at_s: int | None = None
    """Unix seconds."""
    auth_code: Secret | None = None
    """The payer's code, scanned by the merchant."""
    payer_id: Secret | None = None
    """Who pays, as the provider names people (WeChat Pay: openid)."""

    def expected(self, channel: str) -> Expected:
        return Expected(Operation.PAY, channel, self.order_no, self.money, self.product)


@dataclass(frozen=True, slots=True)
class GenericQuery:
    """What became of an order?"""

    order_no: str
    begun_at_s: int
    """Of the order's first attempt, Unix seconds."""
    money: Money | None = None
    """The order's, where it is known here: the answer must agree."""

    def expected(self, channel: str) -> Expected:
        return Expected(Operation.QUERY, channel, self.order_no, self.money)


@dataclass(frozen=True, slots=True)
class GenericRefund:
    """A paid order's money back, all or a part of it."""

    order_no: str
    refund_no: str
    """The refund's own number, the same in each repeat."""
    money: Money
    """What goes back."""
    paid: Money | None
    """The order's whole amount, where it is known here."""
    begun_at_s: int
    """Of the refund's first attempt, Unix seconds."""
    channel_order_no: str | None = None
    """The channel's own number of the payment, as its answers told it (`channel_order_no`)."""
    reason: str = ""
    notify_url: str = ""

    def expected(self, channel: str) -> Expected:
        return Expected(Operation.REFUND, channel, self.order_no, self.money, refund_no=self.refund_no)


@dataclass(frozen=True, slots=True)
class GenericClose:
    """An order that shall not be paid any more."""

    order_no: str
    begun_at_s: int
    """Of the first attempt to close it, Unix seconds."""
    money: Money | None = None
    channel_order_no: str | None = None

    def expected(self, channel: str) -> Expected:
        return Expected(Operation.CLOSE, channel, self.order_no, self.money)


@dataclass(frozen=True, slots=True, repr=False)
class ChannelIdentity:
    """Who we are at a provider, and whom we believe to be it. Keys are parsed when the policy is loaded."""

    account: str
    """`app_id` (Alipay), `mchid` (WeChat Pay), `merId` (UnionPay)."""
    signer: Signer | None = None
    """Its `serial`: `app_cert_sn` (empty: plain keys), the merchant certificate's serial, `certId`."""
    secret: Secret | None = None
    """Where both sides sign with one secret."""
    provider_keys: Mapping[str, tuple[CredentialKey, ...]] = field(default_factory=dict)
    """The provider's keys by the serial that its answers name; under "" those that have none."""
    trust: CertificateTrust | None = None
    """Where answers carry their certificate (UnionPay)."""
    app_id: str = ""
    """Where an application is named beside the account (WeChat Pay `appid`)."""
    root_serial: str = ""
    """Alipay's `alipay_root_cert_sn`, in certificate mode."""
    notify_url: str = ""
    """Where the provider shall notify: the gateway's own notify route, which verifies. Before the order's."""

    def __repr__(self) -> str:
        return "ChannelIdentity(***)"

    @property
    def serial(self) -> str:
        return "" if self.signer is None else self.signer.serial

    def sign(self, text: bytes) -> str:
        """RSA PKCS#1 v1.5 with SHA-256, base64; 600 us. Only where `Adapter.identity_problems` asks for the key."""
        assert self.signer is not None  # refused at load
        return self.signer.sign(text)

    def keys_named(self, serial: str) -> tuple[CredentialKey, ...]:
        return self.provider_keys.get(serial, ())

    def notified_at(self, wanted: str) -> str:
        return self.notify_url or wanted


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What the provider shall receive, byte for byte; header names are lower case, `target` is path and query."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChannelAnswer:
    """What a provider's answer says. `why` is for the log: words of ours. `document` goes to the merchant."""

    outcome: Outcome
    why: str
    fault: Fault
    document: Mapping[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What can be asked of a channel through this adapter."""

    operations: frozenset[Operation]
    products: Mapping[str, str]
    """The products that an order may name, and what each is to the provider."""
    currencies: frozenset[str]


class Adapter(Protocol):
    """One provider's protocol. Its methods are pure and raise nothing for what a merchant or provider sends."""

    @property
    def name(self) -> str:
        """As the policy names it."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    def identity_problems(self, identity: ChannelIdentity) -> tuple[str, ...]:
        """What an identity lacks for this provider, each as `member: what is wrong`. Asked when a policy is loaded."""
        ...

    def problems(self, order: GenericOrder, identity: ChannelIdentity) -> tuple[str, ...]:
        """What the order lacks for this provider, each as `field: what is wrong`, without values; nothing is signed."""
        ...

    def write_pay(self, order: GenericOrder, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial: ...

    def write_query(self, query: GenericQuery, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial: ...

    def write_refund(
        self, refund: GenericRefund, identity: ChannelIdentity, stamp: Stamp
    ) -> UpstreamRequest | Denial: ...

    def write_close(self, close: GenericClose, identity: ChannelIdentity, stamp: Stamp) -> UpstreamRequest | Denial: ...

    def read_answer(
        self,
        expected: Expected,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        identity: ChannelIdentity,
        stamp: Stamp,
    ) -> ChannelAnswer:
        """The answer, verified. Header names are lower case. What is not signed by the provider is `unknown`."""
        ...


def required(**needed: bool) -> tuple[str, ...]:
    """`member: is required` for every member that is not there."""
    return tuple(f"{name}: is required" for name, there in needed.items() if not there)


def lacking(problems: tuple[str, ...]) -> Denial:
    """The refusal of an order that a provider could not take as it is."""
    return Denial(Reason.FIELD_INVALID, "; ".join(problems), told=problems)


def answer(expected: Expected, reading: Reading, **told: object) -> ChannelAnswer:
    """A generic answer; members of `told` that are None or empty are left out."""
    document: dict[str, object] = {
        "order_no": expected.order_no,
        "status": STATUSES[reading.outcome],
        "channel": expected.channel,
        "operation": expected.operation.value,
    }
    if expected.refund_no is not None:
        document["refund_no"] = expected.refund_no
    if reading.outcome is Outcome.REFUSED:
        document["fault"] = reading.fault.value
    document |= {name: value for name, value in told.items() if value is not None and value != ""}
    return ChannelAnswer(reading.outcome, reading.why, reading.fault, document)


def unanswered(expected: Expected, why: str) -> ChannelAnswer:
    """Nothing was heard that can be believed: no answer in time, or none that the provider signed."""
    reading = Reading(Outcome.UNKNOWN, why, Fault.CHANNEL)
    return answer(expected, reading, message="the channel has not said what became of it: query the order")


def signed_by(keys: tuple[CredentialKey, ...], signature: str, signed: bytes, now_s: int) -> bool:
    """Whether one of the keys, valid now, made this signature (strict base64) over `signed`."""
    decoded = decode_base64(signature)
    if decoded is None:
        return False
    return any(key.valid_at(now_s) and key.verifier.verifies(decoded, signed) for key in keys)


def text(value: object) -> str | None:
    """A text that says something; None for anything else."""
    return value if isinstance(value, str) and value else None
