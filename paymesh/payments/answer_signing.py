"""Owns signing an upstream's answer again with the gateway's own key, after its fields were hidden.

Refuses to write an answer anew: where the signature stands in the body, only its value and the name of the key change.
UnionPay's answers are left out: nothing in them is encoded, so no field of theirs can be hidden like a form's.
Source of what is signed, and where it stands: protocols.md section 1, held against the SDKs in tests/sdk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from paymesh.payments.bodies.body import written_as
from paymesh.payments.bodies.edits import Cut, spliced
from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.json_body import JsonDocument, parse_json
from paymesh.payments.bodies.json_edit import Span, find_spans
from paymesh.payments.bodies.limits import BodyLimits, Format, Reading
from paymesh.payments.policy.compiled import Protocol
from paymesh.payments.signers import Signer

WECHAT_SIGNATURE_TYPE = "WECHATPAY2-SHA256-RSA2048"
_ANSWER_ENDING = "_response"
_SIGN, _CERTIFICATE = "sign", "alipay_cert_sn"
_READING = Reading(always=Format.JSON)
"""Alipay v2 answers are JSON called text/html, in the charset that the request asked for."""
_READ_BEFORE = BodyLimits(max_bytes=1 << 30, max_depth=500, max_members=1 << 30)
"""Whoever hid fields in the answer has read it under its route's own limits."""


@dataclass(frozen=True, slots=True)
class SignedAnswer:
    """The answer to send on."""

    body: bytes
    headers: tuple[tuple[str, str], ...]
    """To set, each with one value; names are lower case."""
    headers_removed: tuple[str, ...] = ()
    """What named the upstream's key, where ours has no name."""


class AnswerNotSignable(Exception):  # noqa: N818 - it names the answer
    """The answer has no form that its SDKs would verify. The message holds no value of it."""


def sign_answer(
    protocol: Protocol, signer: Signer, body: bytes, content_type: str | None, now_s: int, nonce: str
) -> SignedAnswer:
    """The answer as the protocol signs answers, by `signer`. `now_s`: Unix seconds. Raises AnswerNotSignable.

    One RSA signature, 600 us, each time: answers do not repeat.
    """
    sign = _SIGNED.get(protocol)
    if sign is None:
        raise AnswerNotSignable(f"answers of {protocol} carry no signature")
    return sign(_Answer(signer, body, content_type, now_s, nonce))


@dataclass(frozen=True, slots=True)
class _Answer:
    signer: Signer
    body: bytes
    content_type: str | None
    now_s: int
    nonce: str

    def sign_with_stamp(self, stamp: int) -> str:
        """`timestamp\\nnonce\\nbody\\n`: what both v3 APIs sign; an empty body's line stays."""
        return self.signer.sign(f"{stamp}\n{self.nonce}\n".encode() + self.body + b"\n")


def _wechat_v3(answer: _Answer) -> SignedAnswer:
    if not answer.signer.serial:
        raise AnswerNotSignable("the key has no serial, by which WeChat Pay's SDKs look for it")
    headers = (
        ("wechatpay-timestamp", str(answer.now_s)),
        ("wechatpay-nonce", answer.nonce),
        ("wechatpay-signature", answer.sign_with_stamp(answer.now_s)),
        ("wechatpay-serial", answer.signer.serial),
        ("wechatpay-signature-type", WECHAT_SIGNATURE_TYPE),
    )
    return SignedAnswer(answer.body, headers)


def _alipay_v3(answer: _Answer) -> SignedAnswer:
    stamp_ms = answer.now_s * 1000
    headers = (
        ("alipay-timestamp", str(stamp_ms)),
        ("alipay-nonce", answer.nonce),
        ("alipay-signature", answer.sign_with_stamp(stamp_ms)),
    )
    if not answer.signer.serial:
        return SignedAnswer(answer.body, headers, ("alipay-sn",))
    return SignedAnswer(answer.body, (*headers, ("alipay-sn", answer.signer.serial)))


# -- Alipay v2: the signature stands in the body --------------------------------------------------------------------


def _alipay_v2(answer: _Answer) -> SignedAnswer:
    document, codec = _read(answer)
    text, spans = document.text, _members(document)
    told = _told(document, spans)
    sign = answer.signer.sign(text[told.value_start : told.value_end].encode(codec))
    edits: list[Cut] = []
    old_sign, old_serial = spans.get(_SIGN), spans.get(_CERTIFICATE)
    if old_sign is not None and old_sign.index > told.index:
        edits.append((old_sign.value_start, old_sign.value_end, f'"{sign}"'))
    else:
        # Directly after the object: one SDK looks for `},"sign":"`, others for any `sign` after it.
        edits.append((told.value_end, told.value_end, f',"{_SIGN}":"{sign}"'))
        if old_sign is not None:
            edits.append(_removed(old_sign, told))
    if old_serial is not None:
        name = json.dumps(answer.signer.serial)
        renamed = (old_serial.value_start, old_serial.value_end, name)
        edits.append(renamed if answer.signer.serial else _removed(old_serial, told))
    return SignedAnswer(spliced(text, edits).encode(codec), ())


def _told(document: JsonDocument, spans: Mapping[str, Span]) -> Span:
    """The one member that is signed: `<method>_response`, an object, or a text where it is encrypted."""
    found = [span for name, span in spans.items() if name.endswith(_ANSWER_ENDING)]
    if len(found) != 1:
        raise AnswerNotSignable(f"the answer does not have exactly one member that ends in {_ANSWER_ENDING}")
    if document.text[found[0].value_start] not in '{"':
        raise AnswerNotSignable(f"the member that ends in {_ANSWER_ENDING} is neither an object nor a text")
    return found[0]


def _members(document: JsonDocument) -> dict[str, Span]:
    assert isinstance(document.value, dict)  # it was read so
    return {name: span for (name,), span in find_spans(document, [(name,) for name in document.value]).items()}


def _removed(span: Span, told: Span) -> Cut:
    """A member goes with the comma on the answer's side, so that no two edits meet."""
    return (span.start, span.end + 1, "") if span.index < told.index else (span.start - 1, span.end, "")


def _read(answer: _Answer) -> tuple[JsonDocument, str]:
    """The document, and the codec it is written in: one that writes what it read as the same bytes."""
    try:
        codec = written_as(answer.content_type, _READING).charset or "utf-8"
        document = parse_json(answer.body, _READ_BEFORE, object_only=True, charset=codec)
    except BodyError as error:
        raise AnswerNotSignable(str(error)) from None
    return document, codec


_SIGNED: Mapping[Protocol, Callable[[_Answer], SignedAnswer]] = {
    Protocol.ALIPAY_V2: _alipay_v2,
    Protocol.ALIPAY_V3: _alipay_v3,
    Protocol.WECHAT_V3: _wechat_v3,
}
