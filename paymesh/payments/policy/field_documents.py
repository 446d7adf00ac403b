"""Owns how rules about fields are written: what a message is read as, what its fields must be, how they are hidden."""

from __future__ import annotations

from pydantic import Field, StrictBool, StrictInt, model_validator

from paymesh.payments.bodies.limits import DEFAULT_LIMITS, Format
from paymesh.payments.policy.credential_documents import Moment
from paymesh.payments.policy.field_rules import (
    Detector,
    JsonType,
    Kind,
    MaskKind,
    Place,
    Relation,
    SanitizeAction,
    UnreadableAnswers,
)
from paymesh.payments.policy.values import (
    Bound,
    Currency,
    Document,
    Name,
    Pattern,
    Pointer,
    Pointers,
    Seconds,
    SecretReference,
)


class FieldsDocument(Document):
    """Where a message keeps what is decided on: JSON pointers into its body, whose form parameters are members like
    those of a JSON object (Alipay v2 with `biz_content` read: /biz_content/out_trade_no; UnionPay: /orderId)."""

    order_no: Pointers | None = Field(None, description="The first one that is there counts.")
    order_no_place: Place = Field(
        Place.BODY, description="Where the order number stands: in the path it is a segment of the template."
    )
    original_order_no: Pointer | None = Field(
        None,
        description="On a refund route: the payment's order number, where `order_no` is the refund's own. Says which "
        "channel the refund goes to.",
    )
    original_order_no_place: Place = Field(Place.BODY, description="Where it stands, as above.")
    amount: Pointer | None = Field(
        None,
        description="Integer minor units; on Alipay routes decimal text such as '88.88', on UnionPay routes digits.",
    )
    currency: Pointer | None = Field(
        None, description="ISO 4217 code (UnionPay: number); a message without it means default_currency."
    )
    default_currency: Currency = "CNY"
    product: Pointer | None = None
    fixed_product: Name | None = Field(None, description="The product of a route that serves one only.")
    app_id: Pointer | None = Field(
        None, description="Must be an app id of the merchant. Default: where the protocol has it."
    )
    card_no: Pointer | None = Field(
        None,
        description="On a pay route: the card's number, if the payment is by card. Its beginning may choose the "
        "channel; nothing else of it is kept.",
    )
    card_type: Pointer | None = Field(
        None, description="On a pay route: debit or credit (UnionPay: 01 or 02); another word is no known type."
    )
    required: tuple[Pointer, ...] = Field((), description="Members that must be there and not null.")


class BodyDocument(Document):
    """How a request's body is read. Whatever another parser could read differently is refused."""

    formats: tuple[Format, ...] | None = Field(
        None,
        min_length=1,
        description="Default: what the protocol speaks; for merchants without a provider protocol json.",
    )
    embedded: tuple[Pointer, ...] = Field(
        (), description="Texts that hold a JSON document, so that pointers reach into it. Alipay's /biz_content always."
    )
    max_depth: StrictInt = Field(DEFAULT_LIMITS.max_depth, ge=1, le=128, description="Objects and arrays in another.")
    max_members: StrictInt = Field(
        DEFAULT_LIMITS.max_members, ge=1, le=1_000_000, description="Members and elements of the whole document."
    )


class AheadDocument(Document):
    """How far in the future a timestamp is."""

    min: Seconds | None = Field(None, description="At least, such as 1m.")
    max: Seconds | None = Field(None, description="At most, such as 2h.")


class FieldRuleDocument(Document):
    """What one field must be. Every violation is told, not only the first."""

    field: Pointer = Field(description="`*` stands for every element of an array: /items/*/price.")
    place: Place = Field(
        Place.BODY,
        description="Elsewhere than in the body a field is /name; in a query also /name/... of an embedded document.",
    )
    required: StrictBool = False
    type: JsonType | None = Field(None, description="Its type in JSON.")
    kind: Kind | None = Field(None, description="What it is, such as phone or pan: decides what is valid.")
    pattern: Pattern | None = Field(
        None, description="Regular expression of the whole text; needs max_length, so that its cost is bounded."
    )
    min_length: StrictInt | None = Field(None, ge=0, description="Characters of a text, elements of an array.")
    max_length: StrictInt | None = Field(None, ge=0, le=1_000_000)
    one_of: tuple[str | StrictInt, ...] | None = Field(None, min_length=1)
    minimum: Bound | None = None
    maximum: Bound | None = None
    ahead: AheadDocument | None = Field(None, description="Of a timestamp, such as an order's expiry.")

    @model_validator(mode="after")
    def _consistent(self) -> FieldRuleDocument:
        if self.pattern is not None and (self.max_length is None or self.max_length > 4096):
            raise ValueError("a pattern needs a max_length of at most 4096")
        if self.ahead is not None and self.kind is not Kind.TIMESTAMP:
            raise ValueError("ahead is for kind timestamp")
        for low, high in ((self.min_length, self.max_length), (self.minimum, self.maximum)):
            if low is not None and high is not None and low > high:
                raise ValueError("the lower bound is above the upper one: nothing would be valid")
        return self


class SumDocument(Document):
    """The items add up to the whole, exactly."""

    sum: Pointer = Field(description="The addends: /items/*/price.")
    times: Pointer | None = Field(None, description="How often each counts: /items/*/quantity; absent: once.")
    equals: Pointer = Field(description="Such as /amount/total.")


class ComparisonDocument(Document):
    """Two fields in a relation, such as a refund that is at most the total."""

    compare: Pointer
    relation: Relation
    to: Pointer


class ValidationDocument(Document):
    """What the fields of a request must be, beside those that decide. A rule about a field that is absent holds."""

    fields: tuple[FieldRuleDocument, ...] = ()
    sums: tuple[SumDocument, ...] = ()
    comparisons: tuple[ComparisonDocument, ...] = ()


class FieldKeyDocument(Document):
    id: Name = Field(description="Written into the value, so that the key is found again.")
    secret: SecretReference = Field(description="32 random bytes, as they are or as 64 hex digits.")
    valid_from: Moment | None = Field(None, description="RFC 3339: from then on it makes new values.")


class KeyRingDocument(Document):
    """Keys for hashing and encrypting fields. To rotate: add a key with a `valid_from`, keep the old one for as long as
    its values are kept. A key makes new values from its `valid_from` until a later one's."""

    name: Name
    keys: tuple[FieldKeyDocument, ...] = Field(min_length=1)


class SanitizeRuleDocument(Document):
    """Hides one field, or what is found in free text."""

    field: Pointer | None = Field(
        None,
        description="`*` stands for every element of an array. With detect: only texts at or below it; absent: all.",
    )
    place: Place = Field(
        Place.BODY,
        description="Elsewhere than in the body a field is /name; in a query also /name/... of an embedded document.",
    )
    detect: tuple[Detector, ...] = Field((), description="What to look for in texts, however it is written.")
    action: SanitizeAction
    kind: MaskKind | None = Field(
        None,
        description="What a masked value is: decides what stays readable. Default all; detected ones know theirs.",
    )
    keep: StrictInt | None = Field(None, ge=0, le=4096, description="Characters that truncate leaves.")
    keys: Name | None = Field(None, description="The `field_keys` for hash and encrypt.")

    @model_validator(mode="after")
    def _consistent(self) -> SanitizeRuleDocument:
        if self.field is None and not self.detect:
            raise ValueError("field or detect is required")
        if (self.keys is not None) != (self.action in (SanitizeAction.HASH, SanitizeAction.ENCRYPT)):
            raise ValueError("hash and encrypt need keys, and nothing else takes them")
        if (self.keep is not None) != (self.action is SanitizeAction.TRUNCATE):
            raise ValueError("truncate needs keep, and nothing else takes it")
        if self.kind is not None and (self.action is not SanitizeAction.MASK or self.detect):
            raise ValueError("kind is for masking a field")
        if self.detect and self.action is SanitizeAction.TRUNCATE:
            raise ValueError("what is detected is dropped, masked, hashed or encrypted")
        return self


class SanitizeDocument(Document):
    """How personal data is hidden on its way. Outside the named places every byte stays as it was."""

    request: tuple[SanitizeRuleDocument, ...] = Field((), description="Before the service sees it.")
    response: tuple[SanitizeRuleDocument, ...] = Field((), description="Before the caller sees it.")
    service_verifies: StrictBool | None = Field(
        None,
        description="Whether the service verifies the caller's signature itself: then nothing signed may be changed. "
        "Default: yes where a provider's protocol is spoken.",
    )
    sign_again: StrictBool = Field(
        False,
        description="Sign every answer with the protocol's response_signers key, which the merchants then trust. "
        "Required where SDKs verify answers.",
    )
    unreadable_answers: UnreadableAnswers = Field(
        UnreadableAnswers.WITHHOLD,
        description="What becomes of an answer that cannot be sanitised: not readable, compressed, too long. withhold: "
        "the caller hears that the outcome is unknown.",
    )
