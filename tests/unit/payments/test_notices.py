"""A notification is about the order that was begun: number, amount, currency, app and seller."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from paymesh.payments.denial import Denial, Reason
from paymesh.payments.notices import Notice, mismatch, read_notice
from paymesh.payments.orders import OrderTerms, Settled
from paymesh.payments.policy.compiled import Protocol

ALIPAY = {"out_trade_no": "n1", "total_amount": "88.88", "app_id": "a1", "seller_id": "2088"}
WECHAT = {"out_trade_no": "n1", "amount": {"total": 8888, "currency": "CNY"}, "appid": "a1", "mchid": "2088"}
UNIONPAY = {"orderId": "n1", "txnAmt": "8888", "currencyCode": "156", "merId": "2088", "txnType": "01"}
TERMS = OrderTerms(8888, "CNY", "a1", "2088")


def read(protocol: Protocol, document: dict[str, Any]) -> Notice:
    notice = read_notice(protocol, document)
    assert isinstance(notice, Notice), notice
    return notice


@pytest.mark.parametrize(
    ("protocol", "document", "terms"),
    [
        (Protocol.ALIPAY_NOTIFICATION, ALIPAY, TERMS),
        (Protocol.WECHAT_NOTIFICATION, WECHAT, TERMS),
        (Protocol.UNIONPAY_NOTIFICATION, UNIONPAY, replace(TERMS, app_id=None)),
    ],
)
def test_the_order_itself(protocol: Protocol, document: dict[str, Any], terms: OrderTerms) -> None:
    notice = read(protocol, document)
    assert notice.order_keys == ("pay:n1",)
    assert mismatch(terms, notice) is None


@pytest.mark.parametrize(
    ("protocol", "document", "settled"),
    [
        (Protocol.WECHAT_NOTIFICATION, {**WECHAT, "trade_state": "SUCCESS"}, Settled.PAID),
        (Protocol.WECHAT_NOTIFICATION, {**WECHAT, "trade_state": "CLOSED"}, Settled.CLOSED),
        (Protocol.WECHAT_NOTIFICATION, {**WECHAT, "trade_state": "REVOKED"}, Settled.CLOSED),
        (Protocol.WECHAT_NOTIFICATION, {**WECHAT, "trade_state": "REFUND"}, Settled.PAID),
        (Protocol.WECHAT_NOTIFICATION, {**WECHAT, "trade_state": "NOTPAY"}, None),
        (Protocol.WECHAT_NOTIFICATION, {**WECHAT, "trade_status": "TRADE_SUCCESS"}, None),
        (Protocol.WECHAT_NOTIFICATION, {**WECHAT, "refund_status": "SUCCESS"}, None),
        (Protocol.WECHAT_NOTIFICATION, {**WECHAT, "trade_state": ["SUCCESS"]}, None),
        (Protocol.ALIPAY_NOTIFICATION, {**ALIPAY, "trade_status": "TRADE_SUCCESS"}, Settled.PAID),
        (Protocol.ALIPAY_NOTIFICATION, {**ALIPAY, "trade_status": "TRADE_FINISHED"}, Settled.PAID),
        (Protocol.ALIPAY_NOTIFICATION, {**ALIPAY, "trade_status": "TRADE_CLOSED"}, Settled.CLOSED),
        (Protocol.ALIPAY_NOTIFICATION, {**ALIPAY, "trade_status": "WAIT_BUYER_PAY"}, None),
        (Protocol.UNIONPAY_NOTIFICATION, {**UNIONPAY, "respCode": "00"}, Settled.PAID),
        (Protocol.UNIONPAY_NOTIFICATION, {**UNIONPAY, "respCode": "A6"}, Settled.PAID),
        (Protocol.UNIONPAY_NOTIFICATION, {**UNIONPAY, "respCode": "05"}, None),
        (Protocol.UNIONPAY_NOTIFICATION, {**UNIONPAY, "respCode": "00", "txnType": "31"}, None),
        (Protocol.UNIONPAY_NOTIFICATION, {**UNIONPAY, "respCode": "00", "txnType": "04"}, None),
    ],
)
def test_what_it_says_for_certain(protocol: Protocol, document: dict[str, Any], settled: Settled | None) -> None:
    assert read(protocol, document).settled is settled


def test_a_unionpay_refund_is_the_refunds_order() -> None:
    assert read(Protocol.UNIONPAY_NOTIFICATION, {**UNIONPAY, "txnType": "04"}).order_keys == ("refund:n1",)


def test_a_service_providers_notification_names_it_otherwise() -> None:
    document = {
        "out_trade_no": "n1",
        "amount": WECHAT["amount"],
        "sp_appid": "a1",
        "sp_mchid": "2088",
        "sub_mchid": "9",
    }
    assert mismatch(TERMS, read(Protocol.WECHAT_NOTIFICATION, document)) is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"total_amount": "88.87"}, "amount"),
        ({"app_id": "a2"}, "app_id"),
        ({"app_id": None}, "app_id"),
        ({"seller_id": "2089"}, "seller_id"),
        ({"seller_id": None}, "seller_id"),
    ],
)
def test_what_differs_is_refused(change: dict[str, Any], named: str) -> None:
    document = {name: value for name, value in {**ALIPAY, **change}.items() if value is not None}
    denial = mismatch(TERMS, read(Protocol.ALIPAY_NOTIFICATION, document))
    assert denial is not None
    assert denial.reason is Reason.ORDER_MISMATCH
    assert denial.detail == f"{named} not as ordered"


def test_a_seller_that_nobody_knows_is_refused() -> None:
    assert mismatch(replace(TERMS, seller_id=None), read(Protocol.ALIPAY_NOTIFICATION, ALIPAY)) is not None


@pytest.mark.parametrize("missing", ["out_trade_no", "total_amount"])
def test_what_is_left_out_is_refused(missing: str) -> None:
    document = {name: value for name, value in ALIPAY.items() if name != missing}
    assert isinstance(read_notice(Protocol.ALIPAY_NOTIFICATION, document), Denial)


@pytest.mark.parametrize("amount", ["88.888", "8888", "-1.00", "1e3", "٨.٨٨", " 1.00", "1,00", "", "NaN"])
def test_amounts_are_read_exactly(amount: str) -> None:
    notice = read_notice(Protocol.ALIPAY_NOTIFICATION, {**ALIPAY, "total_amount": amount})
    if amount == "8888":
        assert isinstance(notice, Notice)
        assert notice.facts.money is not None
        assert notice.facts.money.amount == 888800
    else:
        assert isinstance(notice, Denial)
