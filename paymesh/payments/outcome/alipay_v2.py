"""Owns what answers of Alipay's `gateway.do` say: 200 whatever became of it, the rest in `<method>_response`.

Refuses an answer to another method than such a request can have, two of them, and one that is encrypted. Nothing here
verifies `sign`. Sources: protocols.md section 1, and those of `alipay_codes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from paymesh.payments.bodies.body import written_as
from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.limits import Format
from paymesh.payments.bodies.limits import Reading as Writing
from paymesh.payments.outcome.alipay_codes import (
    is_taken_later,
    read_cancel,
    read_code,
    read_query,
    read_refund,
    read_trade,
)
from paymesh.payments.outcome.reading import (
    Answer,
    Fault,
    Reader,
    Reading,
    accepted,
    has_text,
    parse_object,
    refused,
    succeeded,
    unknown,
    unreadable,
)
from paymesh.payments.outcome.statuses import read_error
from paymesh.payments.policy.compiled import Operation

_JSON = Writing(always=Format.JSON)
_ENDING, _BEFORE_ANY_METHOD = "_response", "error_response"
_SUCCESS, _IN_PROGRESS, _BUSINESS_FAILED = "10000", "10003", "40004"
_GATEWAY_CODES: Mapping[str, Fault] = {
    # Said by Alipay's gateway, before any trade is looked at.
    "20001": Fault.MERCHANT,  # a token without the permission
    "40001": Fault.MERCHANT,  # a parameter is missing
    "40002": Fault.MERCHANT,  # a parameter is not valid, or the signature
    "40005": Fault.CHANNEL,  # called too often
    "40006": Fault.MERCHANT,  # no permission
}
_OK = 200


def _read_status(operation: Operation, status: int) -> Reading | None:
    if status == _OK:
        return None
    why = f"{status}, and Alipay answers with 200 whatever became of it"
    return unknown(why) if 200 <= status < 300 else read_error(operation, status) or unknown(why)


def _read_body(answer: Answer) -> Reading:
    try:
        charset = written_as(answer.content_type, _JSON).charset or "utf-8"
    except BodyError as error:
        return unreadable(answer.status, error)
    document = parse_object(answer, charset)
    if isinstance(document, Reading):
        return document
    told = [name for name in document if name.endswith(_ENDING)]
    if len(told) != 1:
        return unknown(f"not exactly one member that ends in {_ENDING}")
    (method,) = told
    found = document[method]
    if not isinstance(found, dict):
        return unknown(f"the member that ends in {_ENDING} is no object")
    return _read_told(answer.operation, method, found)


def _read_told(operation: Operation, method: str, document: Mapping[str, object]) -> Reading:
    read = _METHODS[operation].get(method)
    if read is None and method != _BEFORE_ANY_METHOD:
        return unknown("an answer to another method")
    code = document.get("code")
    if code == _SUCCESS or (code == _IN_PROGRESS and read is _read_pay):
        if read is None or "sub_code" in document:
            return unknown("a success that names no method, or has an error's code")
        return read(document)
    if code == _BUSINESS_FAILED:
        return read_code(operation, document.get("sub_code"))
    fault = _GATEWAY_CODES.get(code) if isinstance(code, str) else None
    if fault is None:
        # 20000 above all: Alipay itself does not know.
        return unknown("no known code")
    if operation is Operation.QUERY:
        return unknown(f"the query was refused with code {code}", fault)
    return refused(f"refused with code {code}", fault)


def _read_pay(document: Mapping[str, object]) -> Reading:
    if document.get("code") == _IN_PROGRESS:
        return accepted("code is 10003: the payer has not confirmed yet")
    if "trade_status" in document:
        return read_trade(document)
    if is_taken_later(document):
        return accepted("code is 10000, and the money is taken later")
    return succeeded("code is 10000")


def _created(name: str) -> Callable[[Mapping[str, object]], Reading]:
    def read(document: Mapping[str, object]) -> Reading:
        if has_text(document, name):
            return accepted(f"{name} present: an order was created, not paid")
        return unknown(f"code is 10000 without {name}")

    return read


def _read_close(_: Mapping[str, object]) -> Reading:
    return succeeded("code is 10000: closed")


_CANCEL = {"alipay_trade_cancel_response": read_cancel}
_METHODS: Mapping[Operation, Mapping[str, Callable[[Mapping[str, object]], Reading]]] = {
    Operation.PAY: {
        "alipay_trade_pay_response": _read_pay,
        "alipay_trade_precreate_response": _created("qr_code"),
        "alipay_trade_create_response": _created("trade_no"),
    },
    Operation.QUERY: {
        "alipay_trade_query_response": read_query,
        "alipay_trade_fastpay_refund_query_response": read_query,
    },
    # A cancellation closes what is not paid and gives back what is.
    Operation.REFUND: {"alipay_trade_refund_response": read_refund, **_CANCEL},
    Operation.CLOSE: {"alipay_trade_close_response": _read_close, **_CANCEL},
}
ALIPAY_V2 = Reader(frozenset({"text/html", "application/json"}), _read_status, _read_body)
