"""Owns what answers of WeChat Pay v3 say. Refuses what its documents leave open.

Sources, all at pay.weixin.qq.com/doc/v3/merchant: "query an order by out_trade_no" (trade_state), "domestic refund"
(status), "close an order" (204 and no body), the error codes of each, and "HTTP status codes", which says of 429 that a
payment was not taken, and of a refund that this is not certain; protocols.md section 4.
"""

from __future__ import annotations

from collections.abc import Mapping

from paymesh.payments.outcome.reading import (
    ACCEPTED,
    SUCCEEDED,
    Answer,
    Fault,
    Outcome,
    Reader,
    Reading,
    Verdict,
    accepted,
    has_text,
    parse_object,
    read_word,
    refused,
    succeeded,
    unknown,
)
from paymesh.payments.outcome.statuses import read_error
from paymesh.payments.policy.compiled import Operation

_TRADE_STATES: Mapping[str, Verdict] = {
    "SUCCESS": SUCCEEDED,
    "REFUND": SUCCEEDED,  # it was paid, and a part or all went back since
    "NOTPAY": ACCEPTED,
    "USERPAYING": ACCEPTED,
    "ACCEPT": ACCEPTED,
    "CLOSED": (Outcome.REFUSED, Fault.PAYER),  # nobody paid it in time
    "REVOKED": (Outcome.REFUSED, Fault.MERCHANT),
    # Only of a payment by bar code: the payer's bank said no. An outage of the bank's is BANK_ERROR.
    "PAYERROR": (Outcome.REFUSED, Fault.PAYER),
}
_REFUND_STATES: Mapping[str, Verdict] = {
    "SUCCESS": SUCCEEDED,
    "PROCESSING": ACCEPTED,
    "CLOSED": (Outcome.REFUSED, Fault.MERCHANT),
    # The payer's card is void or frozen: a person decides what follows.
    "ABNORMAL": (Outcome.UNKNOWN, Fault.PAYER),
}
_CREATED_ORDER = ("code_url", "prepay_id", "h5_url")
_OPEN_CODES: Mapping[str, Fault] = {
    # WeChat answers these with a 4xx, but the order may be paid, in progress, or an earlier attempt's.
    "SYSTEM_ERROR": Fault.CHANNEL,
    "SYSTEMERROR": Fault.CHANNEL,
    "BANK_ERROR": Fault.CHANNEL,
    "BANKERROR": Fault.CHANNEL,
    "BIZERR_NEED_RETRY": Fault.CHANNEL,
    "USERPAYING": Fault.PAYER,
    "USER_PAYING": Fault.PAYER,
    "ORDERPAID": Fault.MERCHANT,
    "ORDER_PAID": Fault.MERCHANT,
    "OUT_TRADE_NO_USED": Fault.MERCHANT,
}
_PAYERS_CODES = frozenset(
    {"NOT_ENOUGH", "NOTENOUGH", "NOTSUPORTCARD", "AUTHCODEEXPIRE", "AUTH_CODE_EXPIRE", "AUTH_CODE_ERROR"}
    | {"AUTH_CODE_INVALID", "BUYER_MISMATCH", "USER_ACCOUNT_ABNORMAL"}
)
_MERCHANTS_CODES = frozenset(
    {"PARAM_ERROR", "INVALID_REQUEST", "SIGN_ERROR", "SIGNERROR", "NO_AUTH", "NOAUTH", "RULE_LIMIT", "RULELIMIT"}
    | {"APPID_NOT_EXIST", "APPID_MCHID_NOT_MATCH", "MCHID_NOT_EXIST", "MCH_NOT_EXISTS", "OPENID_MISMATCH"}
    | {"ORDER_CLOSED", "ORDERCLOSED", "ORDER_NOT_EXIST", "RESOURCE_NOT_EXISTS", "INVALID_TRANSACTIONID"}
)
_BALANCE = frozenset({"NOT_ENOUGH", "NOTENOUGH"})
_NO_CONTENT, _TOO_MANY = 204, 429


def _read_status(operation: Operation, status: int) -> Reading | None:
    if operation is Operation.REFUND and status == _TOO_MANY:
        return unknown("after 429 a refund may have been taken all the same")
    if not 200 <= status < 300:
        return read_error(operation, status)
    if operation is Operation.CLOSE:
        return succeeded("closed (204)") if status == _NO_CONTENT else unknown(f"{status}, but 204 says closed")
    return unknown("204 says nothing about the payment") if status == _NO_CONTENT else None


def _read_body(answer: Answer) -> Reading:
    document = parse_object(answer)
    if isinstance(document, Reading):
        return document
    if answer.status >= 400:
        return _read_code(answer, document.get("code"))
    if answer.operation is Operation.REFUND:
        return read_word(document, "status", _REFUND_STATES)
    if answer.operation is Operation.PAY and "trade_state" not in document:
        for name in _CREATED_ORDER:
            if has_text(document, name):
                return accepted(f"{name} present: an order was created, not paid")
        return unknown(f"{answer.status} without {', '.join(_CREATED_ORDER)} or trade_state")
    return read_word(document, "trade_state", _TRADE_STATES)


def _read_code(answer: Answer, code: object) -> Reading:
    if not isinstance(code, str):
        return unknown(f"{answer.status} without a code")
    if code in _OPEN_CODES:
        why = f"{answer.status} with code {code}: the order may be paid or in progress"
        return unknown(why, _OPEN_CODES[code])
    return refused(*_told(answer, code))


def _told(answer: Answer, code: str) -> tuple[str, Fault]:
    if code in _PAYERS_CODES:
        # A refund is paid from the merchant's own balance.
        merchants = answer.operation is Operation.REFUND and code in _BALANCE
        return f"refused with {answer.status} and {code}", Fault.MERCHANT if merchants else Fault.PAYER
    if code in _MERCHANTS_CODES:
        return f"refused with {answer.status} and {code}", Fault.MERCHANT
    return f"refused with {answer.status} and a code", Fault.CHANNEL


WECHAT_V3 = Reader(frozenset({"application/json"}), _read_status, _read_body)
