"""What answers of Alipay's gateway.do say."""

import json
from collections.abc import Mapping

import pytest

from paymesh.payments.outcome import Fault, Outcome, media_types, read_outcome
from paymesh.payments.policy.compiled import Operation, Protocol

ALIPAY = Protocol.ALIPAY_V2
PAY, QUERY, REFUND, CLOSE = Operation.PAY, Operation.QUERY, Operation.REFUND, Operation.CLOSE
ACCEPTED, SUCCEEDED = (Outcome.ACCEPTED, Fault.NONE), (Outcome.SUCCEEDED, Fault.NONE)
BY_PAYER, BY_MERCHANT, BY_CHANNEL = ((Outcome.REFUSED, fault) for fault in (Fault.PAYER, Fault.MERCHANT, Fault.CHANNEL))
OPEN, OPEN_BY_PAYER, OPEN_BY_MERCHANT = (
    (Outcome.UNKNOWN, fault) for fault in (Fault.CHANNEL, Fault.PAYER, Fault.MERCHANT)
)
HTML = "text/html;charset=utf-8"


def ok(**members: object) -> dict[str, object]:
    return {"code": "10000", "msg": "Success", **members}


def failed(sub_code: object, code: str = "40004") -> dict[str, object]:
    return {"code": code, "msg": "Business Failed", "sub_code": sub_code, "sub_msg": "余额不足"}


def encoded(method: str, told: object, charset: str = "utf-8", **more: object) -> bytes:
    answer = {f"{method}_response": told, "sign": "s", **more}
    return json.dumps(answer, ensure_ascii=False).encode(charset)


@pytest.mark.parametrize(
    ("operation", "method", "told", "expected"),
    [
        (PAY, "alipay_trade_pay", ok(trade_no="1", gmt_payment="2026-11-23 10:00:00"), SUCCEEDED),
        (PAY, "alipay_trade_pay", ok(trade_status="TRADE_SUCCESS"), SUCCEEDED),
        (PAY, "alipay_trade_pay", ok(trade_status="WAIT_BUYER_PAY"), ACCEPTED),
        (PAY, "alipay_trade_pay", ok(trade_status="TRADE_CLOSED"), BY_PAYER),
        (PAY, "alipay_trade_pay", ok(trade_status="NEW"), OPEN),
        (PAY, "alipay_trade_pay", ok(async_payment_mode="ASYNC_DELAY_PAY"), ACCEPTED),
        (PAY, "alipay_trade_pay", ok(async_payment_mode="SYNC_DIRECT_PAY"), SUCCEEDED),
        (PAY, "alipay_trade_pay", ok(sub_code="ACQ.SYSTEM_ERROR"), OPEN),
        (PAY, "alipay_trade_pay", {"code": "10003", "msg": " order success pay inprocess"}, ACCEPTED),
        (PAY, "alipay_trade_pay", {"code": 10000}, OPEN),
        (PAY, "alipay_trade_pay", {"msg": "Success"}, OPEN),
        (PAY, "alipay_trade_pay", "ciphertext", OPEN),
        (PAY, "alipay_trade_pay", [ok()], OPEN),
        (PAY, "alipay_trade_precreate", ok(qr_code="https://qr.alipay.example/1"), ACCEPTED),
        (PAY, "alipay_trade_precreate", ok(), OPEN),
        (PAY, "alipay_trade_precreate", {"code": "10003"}, OPEN),
        (PAY, "alipay_trade_create", ok(trade_no="1"), ACCEPTED),
        (PAY, "alipay_trade_create", ok(), OPEN),
        # Another method's answer, or none's.
        (PAY, "alipay_trade_query", ok(trade_status="TRADE_SUCCESS"), OPEN),
        (PAY, "alipay_fund_trans_uni_transfer", ok(), OPEN),
        (PAY, "alipay_trade_query", failed("ACQ.BUYER_BALANCE_NOT_ENOUGH"), OPEN),
        (PAY, "error", ok(), OPEN),
        (PAY, "error", failed("isv.invalid-app-id", "40002"), BY_MERCHANT),
        # The gateway's own codes.
        (PAY, "alipay_trade_pay", failed("isp.unknow-error", "20000"), OPEN),
        (PAY, "alipay_trade_pay", failed("aop.ACQ.SYSTEM_ERROR", "20000"), OPEN),
        (PAY, "alipay_trade_pay", failed("aop.invalid-auth-token", "20001"), BY_MERCHANT),
        (PAY, "alipay_trade_pay", failed("isv.missing-signature", "40001"), BY_MERCHANT),
        (PAY, "alipay_trade_pay", failed("isv.invalid-signature", "40002"), BY_MERCHANT),
        (PAY, "alipay_trade_pay", failed("isv.app-call-limited", "40005"), BY_CHANNEL),
        (PAY, "alipay_trade_pay", failed("isv.insufficient-isv-permissions", "40006"), BY_MERCHANT),
        (PAY, "alipay_trade_pay", failed("x", "49999"), OPEN),
        # The trade's.
        (PAY, "alipay_trade_pay", failed("ACQ.SYSTEM_ERROR"), OPEN),
        (PAY, "alipay_trade_pay", failed("ACQ.SOMETHING_NEW"), OPEN),
        (PAY, "alipay_trade_pay", failed(None), OPEN),
        (PAY, "alipay_trade_pay", failed(["ACQ.INVALID_PARAMETER"]), OPEN),
        (PAY, "alipay_trade_pay", failed("ACQ.BUYER_BALANCE_NOT_ENOUGH"), BY_PAYER),
        (PAY, "alipay_trade_pay", failed("ACQ.BUYER_BANKCARD_BALANCE_NOT_ENOUGH"), BY_PAYER),
        (PAY, "alipay_trade_pay", failed("ACQ.PAYMENT_AUTH_CODE_INVALID"), BY_PAYER),
        (PAY, "alipay_trade_pay", failed("ACQ.BUYER_PAYMENT_AMOUNT_DAY_LIMIT_ERROR"), BY_PAYER),
        (PAY, "alipay_trade_pay", failed("ACQ.INVALID_PARAMETER"), BY_MERCHANT),
        (PAY, "alipay_trade_pay", failed("ACQ.ACCESS_FORBIDDEN"), BY_MERCHANT),
        (PAY, "alipay_trade_pay", failed("ACQ.TOTAL_FEE_EXCEED"), BY_MERCHANT),
        (PAY, "alipay_trade_pay", failed("ACQ.TRADE_HAS_CLOSE"), BY_MERCHANT),
        (PAY, "alipay_trade_pay", failed("isv.invalid-parameter"), BY_MERCHANT),
        (PAY, "alipay_trade_pay", failed("ACQ.TRADE_HAS_SUCCESS"), OPEN_BY_MERCHANT),
        (PAY, "alipay_trade_pay", failed("ACQ.CONTEXT_INCONSISTENT"), OPEN_BY_MERCHANT),
        (PAY, "alipay_trade_pay", failed("ACQ.TRADE_STATUS_ERROR"), OPEN_BY_MERCHANT),
        (PAY, "alipay_trade_pay", failed("ACQ.TRADE_BUYER_NOT_MATCH"), OPEN_BY_PAYER),
        (QUERY, "alipay_trade_query", ok(trade_status="WAIT_BUYER_PAY"), ACCEPTED),
        (QUERY, "alipay_trade_query", ok(trade_status="TRADE_SUCCESS"), SUCCEEDED),
        (QUERY, "alipay_trade_query", ok(trade_status="TRADE_FINISHED"), SUCCEEDED),
        (QUERY, "alipay_trade_query", ok(trade_status="TRADE_CLOSED"), BY_PAYER),
        (QUERY, "alipay_trade_query", ok(trade_status="TRADE_CLOSED", send_pay_date="2026-11-23 10:00:00"), SUCCEEDED),
        (QUERY, "alipay_trade_query", ok(), OPEN),
        (QUERY, "alipay_trade_query", failed("ACQ.TRADE_NOT_EXIST"), OPEN_BY_MERCHANT),
        (QUERY, "alipay_trade_query", failed("ACQ.SYSTEM_ERROR"), OPEN),
        (QUERY, "alipay_trade_query", failed("isv.invalid-signature", "40002"), OPEN_BY_MERCHANT),
        (QUERY, "alipay_trade_fastpay_refund_query", ok(refund_status="REFUND_SUCCESS"), SUCCEEDED),
        (QUERY, "alipay_trade_fastpay_refund_query", ok(), OPEN),
        (QUERY, "alipay_trade_pay", ok(), OPEN),
        (REFUND, "alipay_trade_refund", ok(fund_change="Y"), SUCCEEDED),
        (REFUND, "alipay_trade_refund", ok(fund_change="N"), ACCEPTED),
        (REFUND, "alipay_trade_refund", ok(), ACCEPTED),
        (REFUND, "alipay_trade_refund", failed("ACQ.SELLER_BALANCE_NOT_ENOUGH"), BY_MERCHANT),
        (REFUND, "alipay_trade_refund", failed("ACQ.TRADE_NOT_EXIST"), BY_MERCHANT),
        (REFUND, "alipay_trade_refund", failed("ACQ.TRADE_STATUS_ERROR"), BY_MERCHANT),
        (REFUND, "alipay_trade_refund", failed("ACQ.TRADE_HAS_FINISHED"), BY_MERCHANT),
        (REFUND, "alipay_trade_refund", failed("ACQ.DISCORDANT_REPEAT_REQUEST"), OPEN_BY_MERCHANT),
        (REFUND, "alipay_trade_refund", failed("ACQ.SYSTEM_ERROR"), OPEN),
        (REFUND, "alipay_trade_pay", ok(fund_change="Y"), OPEN),
        (CLOSE, "alipay_trade_close", ok(out_trade_no="1"), SUCCEEDED),
        (CLOSE, "alipay_trade_close", failed("ACQ.TRADE_STATUS_ERROR"), BY_MERCHANT),
        (CLOSE, "alipay_trade_close", failed("ACQ.TRADE_NOT_EXIST"), BY_MERCHANT),
        (CLOSE, "alipay_trade_cancel", ok(retry_flag="N", action="close"), SUCCEEDED),
        (CLOSE, "alipay_trade_cancel", ok(retry_flag="Y"), OPEN),
        (CLOSE, "alipay_trade_cancel", ok(), OPEN),
        (CLOSE, "alipay_trade_pay", ok(), OPEN),
    ],
)
def test_read(operation: Operation, method: str, told: object, expected: tuple[Outcome, Fault]) -> None:
    found = read_outcome(ALIPAY, operation, 200, encoded(method, told), HTML)
    assert (found.outcome, found.fault) == expected


@pytest.mark.parametrize(
    ("content_type", "charset", "expected"),
    [
        ("text/html;charset=utf-8", "utf-8", BY_PAYER),
        ("text/html; charset=GBK", "gbk", BY_PAYER),
        ("text/html;charset=gb2312", "gbk", BY_PAYER),
        ("application/json", "utf-8", BY_PAYER),
        (None, "utf-8", BY_PAYER),
        # Bytes that are not what they are called are not guessed at.
        ("text/html;charset=utf-8", "gbk", OPEN),
        (None, "gbk", OPEN),
        ("text/html;charset=big5", "utf-8", OPEN),
        ("text/html;charset=utf-8;charset=gbk", "utf-8", OPEN),
        ("text/html;charset=utf-8", "utf-16", OPEN),
    ],
)
def test_charsets(content_type: str | None, charset: str, expected: tuple[Outcome, Fault]) -> None:
    body = encoded("alipay_trade_pay", failed("ACQ.BUYER_BALANCE_NOT_ENOUGH"), charset)
    found = read_outcome(ALIPAY, PAY, 200, body, content_type)
    assert (found.outcome, found.fault) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (201, OPEN),
        (204, OPEN),
        (302, OPEN),
        (400, OPEN),
        (403, OPEN),
        (401, BY_MERCHANT),
        (404, BY_CHANNEL),
        (500, OPEN),
    ],
)
def test_it_answers_with_200_only(status: int, expected: tuple[Outcome, Fault]) -> None:
    found = read_outcome(ALIPAY, PAY, status, encoded("alipay_trade_pay", ok()), HTML)
    assert (found.outcome, found.fault) == expected


@pytest.mark.parametrize(
    "more",
    [
        {"error_response": failed("isv.invalid-app-id", "40002")},
        {"alipay_trade_query_response": ok(trade_status="WAIT_BUYER_PAY")},
        {"note_response": "x"},
    ],
)
def test_two_answers_are_none(more: Mapping[str, object]) -> None:
    assert read_outcome(ALIPAY, PAY, 200, encoded("alipay_trade_pay", ok(), **more), HTML).outcome is Outcome.UNKNOWN


def test_a_wrong_signature_is_no_matter_of_reading() -> None:
    body = encoded("alipay_trade_pay", ok(), sign="", alipay_cert_sn="x")
    assert read_outcome(ALIPAY, PAY, 200, body, HTML).outcome is Outcome.SUCCEEDED


def test_what_its_answers_call_themselves() -> None:
    assert media_types(ALIPAY) == {"text/html", "application/json"}
