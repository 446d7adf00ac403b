"""Owns what answers of UnionPay 5.1.0 say: 200 whatever became of it, `respCode` in a form that nothing encodes.

Refuses an answer that could be cut into parameters in two ways: a merchant's own text comes back in it, and could hold
another code. Nothing here verifies `signature`. Sources: UnionPay "all-channel platform: response codes"
(open.unionpay.com, appendix), the comments of its published samples for what to do after 00, 03, 04, 05 and any other
code of a transaction and of a query; protocols.md section 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from paymesh.payments.bodies.content_type import parse_content_type
from paymesh.payments.bodies.errors import BodyError, BodyErrorKind
from paymesh.payments.bodies.form import CHARSETS, MEDIA_TYPE
from paymesh.payments.bodies.limits import DEFAULT_LIMITS
from paymesh.payments.outcome.reading import (
    ACCEPTED,
    SUCCEEDED,
    Answer,
    Fault,
    Outcome,
    Reader,
    Reading,
    Verdict,
    unknown,
    unreadable,
)
from paymesh.payments.outcome.statuses import read_error
from paymesh.payments.policy.compiled import Operation

_OK = 200
_MAX_PARAMETERS = 200
_CODE, _QUERIED_CODE = "respCode", "origRespCode"
_DECIDING = {name.lower(): name for name in (_CODE, _QUERIED_CODE)}
_PAYERS: Verdict = (Outcome.REFUSED, Fault.PAYER)
_MERCHANTS: Verdict = (Outcome.REFUSED, Fault.MERCHANT)
_CHANNELS: Verdict = (Outcome.REFUSED, Fault.CHANNEL)
_OPEN: Verdict = (Outcome.UNKNOWN, Fault.CHANNEL)
_TAKEN_BEFORE: Verdict = (Outcome.UNKNOWN, Fault.MERCHANT)

_CODES: Mapping[str, Verdict] = {
    "01": _CHANNELS,  # failed, and not said why
    "02": _CHANNELS,  # the system is not open
    "03": _OPEN,  # timed out: query
    "04": _OPEN,  # not clear: query
    "05": ACCEPTED,  # taken: query
    "06": _OPEN,  # busy
    "10": _MERCHANTS,  # the message's format
    "11": _MERCHANTS,  # its signature
    "12": _TAKEN_BEFORE,
    "13": _MERCHANTS,  # a field is missing
    "31": _MERCHANTS,  # the merchant's state
    "32": _MERCHANTS,  # no permission
    "33": _MERCHANTS,  # the amount is over the limit
    "34": _MERCHANTS,  # no such transaction
    "35": _MERCHANTS,  # the original is not in such a state
    "36": _MERCHANTS,  # it differs from the original
    "37": _CHANNELS,  # too often
    "38": _PAYERS,  # a risk
    "39": _CHANNELS,  # not at this time
    "40": _PAYERS,  # the card is not bound
    "42": (Outcome.UNKNOWN, Fault.PAYER),  # paid, but too late
    "43": _MERCHANTS,  # not this business
    "44": _PAYERS,  # a wrong number
    "45": _TAKEN_BEFORE,  # refunded or undone before
    "46": _TAKEN_BEFORE,  # reversed before
    "60": _PAYERS,  # the issuer says no
    "61": _PAYERS,  # no such card
    "62": _PAYERS,  # not with this issuer
    "63": _PAYERS,  # the card's state
    "64": _PAYERS,  # too little money
    "65": _PAYERS,  # wrong password, expiry or CVN2
    "66": _PAYERS,  # wrong identity or phone
    "67": _PAYERS,  # wrong password too often
    "68": _PAYERS,  # not with this card
    "69": _PAYERS,  # took too long to enter
    "71": _PAYERS,  # wrong SMS code
    "72": _PAYERS,  # not enabled for the card
    "73": _PAYERS,  # the card has expired
    "77": _PAYERS,  # not enabled for the card
    "78": _PAYERS,  # the issuer limits the card
    "79": _PAYERS,  # the issuer sends no SMS
}
"""Of a transaction's own answer, and of a query's `origRespCode`. Others, such as 98 and 99, leave it open."""
_TRANSACTION: Mapping[str, Verdict] = {
    # Taken, not done: what becomes of it is notified, or told by a query.
    **_CODES,
    "00": ACCEPTED,
    "A6": ACCEPTED,
}
_QUERIED: Mapping[str, Verdict] = {
    **_CODES,
    "00": SUCCEEDED,
    "A6": SUCCEEDED,  # with a flaw, and the money has moved
}


def _read_status(operation: Operation, status: int) -> Reading | None:
    if status == _OK:
        return None
    why = f"{status}, and UnionPay answers with 200 whatever became of it"
    return unknown(why) if 200 <= status < 300 else read_error(operation, status) or unknown(why)


def _read_body(answer: Answer) -> Reading:
    try:
        codes = _read_codes(_decode(answer))
    except BodyError as error:
        return unreadable(answer.status, error)
    if answer.operation is not Operation.QUERY:
        if _QUERIED_CODE in codes:
            return unknown(f"the answer to a query, by its {_QUERIED_CODE}")
        return _read_code(_CODE, codes, _TRANSACTION)
    if codes.get(_CODE) == "00":
        return _read_code(_QUERIED_CODE, codes, _QUERIED)
    found = _read_code(_CODE, codes, _CODES)
    # Also after 34: the payment asked about may be on its way to the channel.
    fault = Fault.CHANNEL if found.fault is Fault.NONE else found.fault
    return unknown(f"the query was not answered: {found.why}", fault)


def _read_code(name: str, codes: Mapping[str, str], words: Mapping[str, Verdict]) -> Reading:
    code = codes.get(name)
    verdict = words.get(code) if code is not None else None
    return unknown(f"no known {name}") if verdict is None else Reading(verdict[0], f"{name} is {code}", verdict[1])


def _decode(answer: Answer) -> str:
    """Raises BodyError."""
    if len(answer.body) > DEFAULT_LIMITS.max_bytes:
        raise BodyError(BodyErrorKind.SIZE, "too long")
    charset = parse_content_type(answer.content_type).charset if answer.content_type else None
    codec = CHARSETS.get(charset or "utf-8")
    if codec is None:
        raise BodyError(BodyErrorKind.CONTENT_TYPE, "an unknown charset")
    try:
        return answer.body.decode(codec)
    except UnicodeDecodeError:
        raise BodyError(BodyErrorKind.ENCODING, f"not {codec}") from None


def _read_codes(text: str) -> Mapping[str, str]:
    """The deciding parameters. Raises BodyError where somebody could find others.

    Some clients split at every `&`, others leave alone what stands in braces or brackets: both must find the same.
    """
    found: dict[str, str] = {}
    depth = 0
    segments = text.split("&", _MAX_PARAMETERS)
    if len(segments) > _MAX_PARAMETERS:
        raise BodyError(BodyErrorKind.MEMBERS, f"more than {_MAX_PARAMETERS} parameters")
    for segment in segments:
        name, _, value = segment.partition("=")
        deciding = _DECIDING.get(name.strip().lower())
        if deciding is not None:
            if deciding in found or deciding != name or depth:
                raise BodyError(BodyErrorKind.FORM, f"{deciding} could be read in two ways")
            found[deciding] = value
        elif "%" in name:
            raise BodyError(BodyErrorKind.FORM, "a name is encoded")
        depth += segment.count("{") + segment.count("[") - segment.count("}") - segment.count("]")
    return found


UNIONPAY = Reader(frozenset({"text/html", "text/plain", MEDIA_TYPE}), _read_status, _read_body)
