"""Owns the words that both of Alipay's APIs use: states of a trade and of a refund, and error codes.

Refuses to call refused what an earlier request with the same number may have got. Sources: Alipay "alipay.trade.pay",
"alipay.trade.query", "alipay.trade.refund", "alipay.trade.close", "alipay.trade.cancel" and
"alipay.trade.fastpay.refund.query" (answers and business error codes, opendocs.alipay.com/open and, for v3,
opendocs.alipay.com/open-v3), and "public error codes" (opendocs.alipay.com/common/02km9f).
"""

from __future__ import annotations

from collections.abc import Mapping

from paymesh.payments.outcome.reading import (
    ACCEPTED,
    SUCCEEDED,
    Fault,
    Outcome,
    Reading,
    Verdict,
    accepted,
    has_text,
    read_word,
    refused,
    succeeded,
    unknown,
)
from paymesh.payments.policy.compiled import Operation

_CLOSED = "TRADE_CLOSED"
_TRADE_STATES: Mapping[str, Verdict] = {
    "WAIT_BUYER_PAY": ACCEPTED,
    "TRADE_SUCCESS": SUCCEEDED,
    "TRADE_FINISHED": SUCCEEDED,  # paid, and too long ago to be refunded
    _CLOSED: (Outcome.REFUSED, Fault.PAYER),  # nobody paid it in time
}
_REFUND_STATES: Mapping[str, Verdict] = {"REFUND_SUCCESS": SUCCEEDED}
_PAID_AT_ONCE = "SYNC_DIRECT_PAY"

_PAYERS = frozenset(
    {"BUYER_BALANCE_NOT_ENOUGH", "BUYER_BANKCARD_BALANCE_NOT_ENOUGH", "ERROR_BALANCE_PAYMENT_DISABLE"}
    | {"BUYER_ENABLE_STATUS_FORBID", "BUYER_PAYMENT_AMOUNT_DAY_LIMIT_ERROR", "BUYER_PAYMENT_AMOUNT_MONTH_LIMIT_ERROR"}
    | {"BUYER_SELLER_EQUAL", "BUYER_ERROR", "BUYER_NOT_EXIST", "ERROR_BUYER_CERTIFY_LEVEL_LIMIT"}
    | {"PAYMENT_AUTH_CODE_INVALID", "PAYMENT_REQUEST_HAS_RISK", "MOBILE_PAYMENT_SWITCH_OFF"}
    | {"USER_FACE_PAYMENT_SWITCH_OFF", "NO_PAYMENT_INSTRUMENTS_AVAILABLE", "CLIENT_VERSION_NOT_MATCH"}
    | {"AGREEMENT_NOT_EXIST", "AGREEMENT_INVALID", "AGREEMENT_STATUS_NOT_NORMAL", "AGREEMENT_ERROR"}
)
_MERCHANTS = frozenset(
    {"INVALID_PARAMETER", "ACCESS_FORBIDDEN", "EXIST_FORBIDDEN_WORD", "PARTNER_ERROR", "TOTAL_FEE_EXCEED"}
    | {"BEYOND_PAY_RESTRICTION", "BEYOND_PER_RECEIPT_RESTRICTION", "SELLER_BEEN_BLOCKED", "INVALID_STORE_ID"}
    | {"ERROR_SELLER_CERTIFY_LEVEL_LIMIT", "TRADE_HAS_CLOSE", "TRADE_NOT_EXIST", "SELLER_BALANCE_NOT_ENOUGH"}
    | {"REFUND_AMT_NOT_EQUAL_TOTAL", "REFUND_FEE_ERROR", "REASON_TRADE_REFUND_FEE_ERR", "TRADE_NOT_ALLOW_REFUND"}
    | {"NOT_ALLOW_PARTIAL_REFUND", "ONLINE_TRADE_VOUCHER_NOT_ALLOW_REFUND", "REASON_TRADE_BEEN_FREEZEN"}
    | {"TRADE_HAS_FINISHED", "TRADE_STATUS_ERROR", "REASON_TRADE_STATUS_INVALID", "REASON_ILLEGAL_STATUS"}
)
_OPEN: Mapping[str, Fault] = {
    "SYSTEM_ERROR": Fault.CHANNEL,
    # There is a trade of this number already, which is paid or can still be.
    "TRADE_HAS_SUCCESS": Fault.MERCHANT,
    "CONTEXT_INCONSISTENT": Fault.MERCHANT,
    "TRADE_BUYER_NOT_MATCH": Fault.PAYER,
    # Another amount under the number of a refund that was taken.
    "DISCORDANT_REPEAT_REQUEST": Fault.MERCHANT,
}
_OPEN_TO_A_PAYMENT = frozenset({"TRADE_HAS_FINISHED", "TRADE_STATUS_ERROR"})
"""A refund or a close is refused with these: the trade is in no such state. So it is there."""
_GATEWAYS = ("missing-", "invalid-", "illegal-", "insufficient-")
"""How codes begin that Alipay's gateway says of a request, before any trade is looked at."""
_TOO_OFTEN = "call-limited"


def read_trade(document: Mapping[str, object]) -> Reading:
    """`trade_status`. A trade that is closed with a date of payment was paid, and went back in full since."""
    if document.get("trade_status") == _CLOSED and has_text(document, "send_pay_date"):
        return succeeded(f"trade_status is {_CLOSED} with send_pay_date: paid, and refunded in full since")
    return read_word(document, "trade_status", _TRADE_STATES)


def read_query(document: Mapping[str, object]) -> Reading:
    """Of a trade, or of a refund, whose answer has no `refund_status` unless it is done."""
    if "refund_status" in document:
        return read_word(document, "refund_status", _REFUND_STATES)
    return read_trade(document)


def is_taken_later(document: Mapping[str, object]) -> bool:
    """Whether the money of an agreed payment is taken after this answer (`async_payment_mode`)."""
    return document.get("async_payment_mode", _PAID_AT_ONCE) != _PAID_AT_ONCE


def read_refund(document: Mapping[str, object]) -> Reading:
    """Only `fund_change` Y says that money moved: N also answers the repeat of a refund, and one still under way."""
    if document.get("fund_change") == "Y":
        return succeeded("fund_change is Y")
    return accepted("the refund was taken, and no fund_change Y says that money moved")


def read_cancel(document: Mapping[str, object]) -> Reading:
    """`retry_flag` N: it is cancelled; Y: try again."""
    if document.get("retry_flag") == "N":
        return succeeded("retry_flag is N")
    return unknown("no retry_flag N")


def read_code(operation: Operation, code: object) -> Reading:
    """An error of the trade's own: v2's `sub_code`, which v3 has as its `code`. Not in a table: unknown."""
    if not isinstance(code, str):
        return unknown("an error without a code")
    name = code.removeprefix("isv.").removeprefix("aop.").removeprefix("ACQ.")
    if name in _OPEN:
        return unknown(f"code {name}: the order may be paid or in progress", _OPEN[name])
    if operation is Operation.PAY and name in _OPEN_TO_A_PAYMENT:
        return unknown(f"code {name}: there is such an order", Fault.MERCHANT)
    verdict = _judge(name)
    if verdict is None:
        return unknown("an error whose code is not known")
    why, fault = verdict
    if operation is Operation.QUERY:
        # Also for TRADE_NOT_EXIST: there is no trade before the payer has scanned the code.
        return unknown(f"the query was {why}", fault)
    return refused(why, fault)


def _judge(name: str) -> tuple[str, Fault] | None:
    if name in _PAYERS:
        return f"refused with code {name}", Fault.PAYER
    if name in _MERCHANTS:
        return f"refused with code {name}", Fault.MERCHANT
    if name.endswith(_TOO_OFTEN):
        return "refused: called too often", Fault.CHANNEL
    return ("refused by Alipay's gateway", Fault.MERCHANT) if name.startswith(_GATEWAYS) else None
