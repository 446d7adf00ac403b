"""Owns what answers of Alipay v3 (REST) say: an HTTP status, with 200 the answer's own members, with 4xx `code`.

Refuses to take a created order for a paid one: such an answer names no method, so only a state or the time of payment
says paid. Sources: protocols.md section 1, and those of `alipay_codes.py`, whose codes v3 gives with status 400.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    Reader,
    Reading,
    accepted,
    has_text,
    parse_object,
    succeeded,
    unknown,
)
from paymesh.payments.outcome.statuses import read_error
from paymesh.payments.policy.compiled import Operation

_OK = 200


def _read_status(operation: Operation, status: int) -> Reading | None:
    if status == _OK:
        return None
    if 200 <= status < 300:
        return unknown(f"{status}, and Alipay v3 answers with 200")
    return read_error(operation, status)


def _read_body(answer: Answer) -> Reading:
    document = parse_object(answer)
    if isinstance(document, Reading):
        return document
    if answer.status != _OK:
        return read_code(answer.operation, document.get("code"))
    if "code" in document:
        return unknown("200 with an error's code")
    match answer.operation:
        case Operation.PAY:
            return _read_pay(document)
        case Operation.QUERY:
            return read_query(document)
        case Operation.REFUND:
            return read_cancel(document) if "retry_flag" in document else _read_refund(document)
        case _:
            return read_cancel(document) if "retry_flag" in document else _read_close(document)


def _read_pay(document: Mapping[str, object]) -> Reading:
    if "trade_status" in document:
        return read_trade(document)
    if has_text(document, "qr_code"):
        return accepted("qr_code present: an order was created, not paid")
    if has_text(document, "gmt_payment") and not is_taken_later(document):
        return succeeded("gmt_payment present")
    if has_text(document, "trade_no"):
        return accepted("trade_no present: an order was created, and nothing says that it is paid")
    return unknown("200 without trade_status, qr_code, gmt_payment or trade_no")


def _read_refund(document: Mapping[str, object]) -> Reading:
    return read_refund(document) if _names_trade(document) else unknown("200 that names no trade")


def _read_close(document: Mapping[str, object]) -> Reading:
    return succeeded("closed (200)") if _names_trade(document) else unknown("200 that names no trade")


def _names_trade(document: Mapping[str, object]) -> bool:
    return has_text(document, "trade_no") or has_text(document, "out_trade_no")


ALIPAY_V3 = Reader(frozenset({"application/json"}), _read_status, _read_body)
