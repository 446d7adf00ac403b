"""What each scheme asks for beyond a signature: content it can read, a merchant it knows, a text with one reading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from paymesh.cli.demo.alipay_signing import AlipayMerchant, AlipayProvider, AlipayV3Merchant, alipay_time, encode_form
from paymesh.cli.demo.alipay_signing import sorted_text as alipay_text
from paymesh.cli.demo.rsa_signing import sign_rsa_sha256
from paymesh.cli.demo.signing import WechatPlatform
from paymesh.cli.demo.unionpay_signing import UnionpayMerchant, UnionpayProvider, signed_11, unionpay_time
from paymesh.payments.credentials import unionpay
from paymesh.payments.credentials.alipay_v2 import parse_china_time
from paymesh.payments.credentials.claim import Authenticated, Claim, OnRepeat
from paymesh.payments.credentials.schemes import SCHEMES
from paymesh.payments.credentials.verifiers import supports_sm3
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.request import Request
from tests.unit.payments.credentials.keyring import NOW_S, Keyring
from tests.unit.payments.credentials.messages import FORM, PLATFORM_SERIAL, alipay_v3_upload, at, plain, token


async def accepted(keyring: Keyring, route: str, sent: Request) -> Authenticated:
    result = await keyring.verify(route, sent)
    assert isinstance(result, Authenticated), result
    return result


async def refused(keyring: Keyring, route: str, sent: Request, reason: Reason, detail: str) -> None:
    result = await keyring.verify(route, sent)
    assert isinstance(result, Denial), result
    assert result.reason is reason, result
    assert detail in result.detail, result


# -- WeChat Pay's notifications ----------------------------------------------------------------------------------------

NOTICE = {"mchid": "1900007291", "out_trade_no": "no-1", "trade_state": "SUCCESS"}


def wechat_platform(keyring: Keyring) -> WechatPlatform:
    return WechatPlatform(PLATFORM_SERIAL, keyring.platform, keyring.apiv3_key)


def notified(headers: Mapping[str, str], body: bytes) -> Request:
    return plain("POST", "/notify/wechat", headers, body)


async def test_a_notifications_merchant_is_the_one_in_its_resource(keyring: Keyring) -> None:
    platform = wechat_platform(keyring)
    for number, merchant in (("1900007291", "bookshop"), ("1900007292", "other")):
        for name in ("mchid", "sp_mchid"):
            notice: dict[str, object] = {name: number, "out_trade_no": "no-1"}
            result = await accepted(
                keyring, "wechat_v3_notification", notified(*platform.notification(notice, at_s=NOW_S))
            )
            assert (result.merchant.id, result.document, result.proves) == (merchant, notice, {"mchid": number})
            assert result.on_repeat is OnRepeat.MARK


async def test_a_repeated_notification_has_one_nonce_though_its_own_differs(keyring: Keyring) -> None:
    platform = wechat_platform(keyring)
    _, body = platform.notification(dict(NOTICE))
    first, second = [
        await accepted(keyring, "wechat_v3_notification", notified(platform.sign(body, at_s=NOW_S + late), body))
        for late in (0, 15)
    ]
    assert first.nonce == second.nonce == f"wechat_v3_notification:wechat:{json.loads(body)['id']}"


@pytest.mark.parametrize(
    ("notice", "detail"),
    [
        ({**NOTICE, "mchid": "1"}, "belongs to no merchant"),
        ({**NOTICE, "mchid": ["1900007291"]}, "belongs to no merchant"),
        ({**NOTICE, "mchid": None}, "belongs to no merchant"),
        ({"out_trade_no": "1"}, "belongs to no merchant"),
    ],
)
async def test_a_notification_about_nobody(keyring: Keyring, notice: dict[str, object], detail: str) -> None:
    sent = notified(*wechat_platform(keyring).notification(notice, at_s=NOW_S))
    await refused(keyring, "wechat_v3_notification", sent, Reason.CREDENTIAL_INVALID, detail)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"resource": {"algorithm": "none"}}', "no resource encrypted"),
        (b'{"resource": {"algorithm": "AEAD_AES_256_GCM"}}', "does not decrypt"),
        (b'{"resource": {"algorithm": "AEAD_AES_256_GCM", "nonce": "1", "ciphertext": "!"}}', "does not decrypt"),
        (b'{"resource": {"algorithm": "AEAD_AES_256_GCM", "nonce": 1, "ciphertext": 2}}', "does not decrypt"),
        (b'{"resource": "x"}', "no resource encrypted"),
        (b"[]", "no resource encrypted"),
        (b"", "not acceptable JSON"),
        (b"\xff", "not acceptable JSON"),
        (b'{"resource": {}, "resource": {}}', "not acceptable JSON"),
    ],
)
async def test_a_signed_notification_without_a_readable_resource(keyring: Keyring, body: bytes, detail: str) -> None:
    sent = notified(wechat_platform(keyring).sign(body, at_s=NOW_S), body)
    await refused(keyring, "wechat_v3_notification", sent, Reason.CREDENTIAL_INVALID, detail)


async def test_a_resource_encrypted_with_another_key(keyring: Keyring) -> None:
    other = replace(wechat_platform(keyring), apiv3_key=b"x" * 32)
    sent = notified(*other.notification(dict(NOTICE), at_s=NOW_S))
    await refused(keyring, "wechat_v3_notification", sent, Reason.CREDENTIAL_INVALID, "does not decrypt")


# -- Alipay v2 ---------------------------------------------------------------------------------------------------------


def alipay_call(keyring: Keyring, charset: str = "utf-8", encoding: str = "utf-8", **changed: str) -> Request:
    """A call, correctly signed, whatever it says. An empty value leaves a parameter out."""
    parameters = {
        "app_id": "2021000000000001",
        "method": "alipay.trade.query",
        "charset": charset,
        "sign_type": "RSA2",
        "timestamp": alipay_time(NOW_S),
        "biz_content": '{"out_trade_no":"1"}',
    } | changed
    sign = sign_rsa_sha256(keyring.merchant.rsa, alipay_text(parameters).encode(encoding))
    body = encode_form({**parameters, "sign": sign}, encoding)
    return plain("POST", "/alipay_v2/gateway.do", {"Content-Type": FORM}, body.encode())


async def test_business_parameters_are_read_as_json(keyring: Keyring) -> None:
    result = await accepted(keyring, "alipay_v2", alipay_call(keyring))
    assert isinstance(result.document, dict)
    assert result.document["biz_content"] == {"out_trade_no": "1"}
    assert result.parameters["biz_content"] == '{"out_trade_no":"1"}'
    assert result.proves == {"app_id": "2021000000000001", "seller_id": "2088100000000001"}
    assert result.nonce is None
    assert result.timestamp_s == NOW_S
    without = await accepted(keyring, "alipay_v2", alipay_call(keyring, biz_content=""))
    assert isinstance(without.document, dict)
    assert "biz_content" not in without.document


@pytest.mark.parametrize(
    ("changed", "reason", "detail"),
    [
        ({"biz_content": '{"a":1,"a":2}'}, Reason.BODY_DUPLICATE_KEY, "biz_content"),
        ({"biz_content": '{"a":1}&x=1'}, Reason.BODY_MALFORMED, "biz_content"),
        ({"biz_content": '{"a":1} {"a":2}'}, Reason.BODY_MALFORMED, "biz_content"),
        ({"biz_content": "[]"}, Reason.BODY_MALFORMED, "biz_content"),
        ({"biz_content": "1"}, Reason.BODY_MALFORMED, "biz_content"),
        ({"biz_content": "\x00"}, Reason.BODY_MALFORMED, "biz_content"),
        ({"encrypt_type": "AES"}, Reason.CONTENT_UNSUPPORTED, "encrypt_type"),
        ({"charset": "big5"}, Reason.BODY_MALFORMED, "charset"),
        ({"charset": "gbk", "subject": "中"}, Reason.BODY_MALFORMED, "not gbk"),
        ({"method": ""}, Reason.CREDENTIAL_INVALID, "method"),
        ({"method": "alipay.trade.query&notify_url=x"}, Reason.CREDENTIAL_INVALID, "method"),
        ({"app_auth_token": "", "alipay_root_cert_sn": "a&app_auth_token=b"}, Reason.CREDENTIAL_INVALID, "two ways"),
        ({"sign_type": "RSA"}, Reason.CREDENTIAL_UNSUPPORTED, "RSA2"),
        ({"sign_type": "MD5"}, Reason.CREDENTIAL_INVALID, "sign_type"),
        ({"timestamp": "2027-01-15"}, Reason.CREDENTIAL_INVALID, "timestamp"),
        ({"timestamp": "2027-02-29 00:00:00"}, Reason.CREDENTIAL_INVALID, "timestamp"),
    ],
)
async def test_a_signed_call_that_is_refused(
    keyring: Keyring, changed: dict[str, str], reason: Reason, detail: str
) -> None:
    await refused(keyring, "alipay_v2", alipay_call(keyring, **changed), reason, detail)


async def test_a_certificate_that_the_application_does_not_have(keyring: Keyring) -> None:
    sent = alipay_call(keyring, app_cert_sn="0" * 32)
    await refused(keyring, "alipay_v2", sent, Reason.CREDENTIAL_INVALID, "unknown key")
    merchant = AlipayMerchant("2021000000000002", keyring.merchant.rsa)
    sent = at(merchant.request("alipay.trade.query", {}, at_s=NOW_S))
    await refused(keyring, "alipay_v2", sent, Reason.CREDENTIAL_INVALID, "unknown key")


async def test_gbk_is_read_as_gbk(keyring: Keyring) -> None:
    sent = alipay_call(keyring, "GBK", "gbk", biz_content='{"subject":"测试"}')
    result = await accepted(keyring, "alipay_v2", sent)
    assert isinstance(result.document, dict)
    assert result.document["biz_content"] == {"subject": "测试"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01 08:00:00", 0),
        ("2027-01-15 16:00:00", NOW_S),
        ("1990-07-01 00:00:00", 646761600),  # Shanghai had summer time then; a signature has none
        ("2027-01-15T16:00:00", None),
        ("2027-1-15 16:00:00 ", None),
        ("２０２７-01-15 16:00:00", None),
        ("2027-01-15 24:00:00", None),
        ("2027-01-15 16:00:60", None),
        ("0000-01-01 00:00:00", None),
        ("", None),
    ],
)
def test_times_of_china(text: str, expected: int | None) -> None:
    assert parse_china_time(text) == expected


# -- Alipay v3 ---------------------------------------------------------------------------------------------------------


async def test_an_expiry_of_its_own(keyring: Keyring) -> None:
    merchant = AlipayV3Merchant("2021000000000001", keyring.merchant.rsa)
    target = "/alipay_v3/trade/query"
    headers = merchant.headers("GET", target, at_ms=NOW_S * 1000 + 999, expired_seconds=60)
    sent = plain("GET", target, headers)
    for now_s in (NOW_S - 700, NOW_S, NOW_S + 60):
        assert isinstance(await keyring.verify("alipay_v3", sent, now_s), Authenticated)
    late = await keyring.verify("alipay_v3", sent, NOW_S + 61)
    assert isinstance(late, Denial)
    assert late.reason is Reason.TIMESTAMP_EXPIRED


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a":1,"a":2}', Reason.BODY_DUPLICATE_KEY),
        (b"[]", Reason.BODY_MALFORMED),
        (b"", Reason.BODY_MALFORMED),
        (b"\xff", Reason.BODY_MALFORMED),
    ],
)
async def test_a_signed_part_that_is_no_object(keyring: Keyring, data: bytes, reason: Reason) -> None:
    await refused(keyring, "alipay_v3", alipay_v3_upload(keyring.merchant, "1", data), reason, "part data")


async def test_only_a_multiparts_signed_part_is_its_document(keyring: Keyring) -> None:
    result = await accepted(keyring, "alipay_v3", alipay_v3_upload(keyring.merchant, "1", b'{"image_name":"a"}'))
    assert result.document == {"image_name": "a"}


@pytest.mark.parametrize("body", [b"a=1", b"[]", b'"text"', b"202611BB0123456789", b"{}\nx"])
async def test_a_body_that_could_be_a_token(keyring: Keyring, body: bytes) -> None:
    merchant, target = AlipayV3Merchant("2021000000000001", keyring.merchant.rsa), "/alipay_v3/trade/pay"
    sent = plain("POST", target, merchant.headers("POST", target, body, at_ms=NOW_S * 1000), body)
    await refused(keyring, "alipay_v3", sent, Reason.BODY_MALFORMED, "no JSON object")


# -- Alipay's notifications --------------------------------------------------------------------------------------------


def alipay_notice(keyring: Keyring, **fields: str) -> Request:
    filled = {"app_id": "2021000000000001", "notify_id": "n-1", "out_trade_no": "1", "total_amount": "1.00"} | fields
    return plain("POST", "/notify/alipay", *AlipayProvider(keyring.platform).notification(filled, at_s=NOW_S))


async def test_an_alipay_notification_is_its_applications_merchants(keyring: Keyring) -> None:
    result = await accepted(keyring, "alipay_notification", alipay_notice(keyring, seller_id="2088"))
    assert (result.merchant.id, result.on_repeat) == ("bookshop", OnRepeat.MARK)
    assert result.nonce == "alipay_notification:alipay:n-1"
    assert result.proves == {"app_id": "2021000000000001", "seller_id": "2088"}


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"app_id": "2021000000009999"}, "belongs to no merchant"),
        ({"app_id": ""}, "belongs to no merchant"),
        ({"notify_id": ""}, "notify_id"),
        ({"notify_id": "n" * 129}, "notify_id"),
        ({"charset": "big5"}, "charset"),
        ({"notify_time": "yesterday"}, "notify_time"),
    ],
)
async def test_an_alipay_notification_that_says_too_little(
    keyring: Keyring, fields: dict[str, str], detail: str
) -> None:
    sent = alipay_notice(keyring, **fields)
    await refused(keyring, "alipay_notification", sent, Reason.CREDENTIAL_INVALID, detail)


async def test_a_notification_has_no_query(keyring: Keyring) -> None:
    sent = alipay_notice(keyring)
    sent = replace(sent, target=f"{sent.target}?total_amount=9999.00")
    await refused(keyring, "alipay_notification", sent, Reason.CREDENTIAL_INVALID, "no query")


# -- UnionPay ----------------------------------------------------------------------------------------------------------


def unionpay_payment(keyring: Keyring, **fields: str) -> Request:
    merchant = UnionpayMerchant("777290058110049", secure_key=keyring.merchant.secret)
    return at(merchant.request({"orderId": "1", **fields}, path="/unionpay/backTransReq.do", at_s=NOW_S))


async def test_a_query_has_the_time_of_its_order(keyring: Keyring) -> None:
    payment = await accepted(keyring, "unionpay", unionpay_payment(keyring))
    assert payment.timestamp_s == NOW_S
    query = await accepted(keyring, "unionpay", unionpay_payment(keyring, txnType="00", txnTime="20200101000000"))
    assert query.timestamp_s is None
    assert query.parameters["txnTime"] == "20200101000000"


@pytest.mark.parametrize(
    ("fields", "reason", "detail"),
    [
        ({"version": "5.0.0"}, Reason.CREDENTIAL_UNSUPPORTED, "version"),
        ({"signMethod": "02"}, Reason.CREDENTIAL_UNSUPPORTED, "signMethod"),
        ({"signMethod": ""}, Reason.CREDENTIAL_INVALID, "signMethod"),
        ({"txnType": ""}, Reason.CREDENTIAL_INVALID, "txnType"),
        ({"merId": ""}, Reason.CREDENTIAL_INVALID, "merId"),
        ({"txnTime": "20270230000000"}, Reason.CREDENTIAL_INVALID, "txnTime"),
        ({"txnTime": "2027011516000"}, Reason.CREDENTIAL_INVALID, "txnTime"),
        ({"encoding": "latin-1"}, Reason.CREDENTIAL_INVALID, "charset"),
        ({"merId": "777290058110048"}, Reason.CREDENTIAL_INVALID, "unknown key"),
    ],
)
async def test_a_signed_payment_that_is_refused(
    keyring: Keyring, fields: dict[str, str], reason: Reason, detail: str
) -> None:
    await refused(keyring, "unionpay", unionpay_payment(keyring, **fields), reason, detail)


def test_without_sm3_method_12_is_called_unsupported(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = unionpay_payment(keyring, signMethod="12")
    route = keyring.policy.routes_by_name["unionpay"]
    assert isinstance(SCHEMES[route.schemes[0]].read(sent, route), Claim) is supports_sm3()
    monkeypatch.setattr(unionpay, "supports_sm3", lambda: False)
    result = unionpay.Unionpay().read(sent, route)
    assert isinstance(result, Denial)
    assert result.reason is Reason.CREDENTIAL_UNSUPPORTED


def unionpay_notice(keyring: Keyring, **fields: str) -> dict[str, str]:
    filled = {"merId": "777290058110048", "orderId": "1", "txnAmt": "100", "queryId": "q-1", "txnType": "01"}
    provider = UnionpayProvider(keyring.provider.key, keyring.provider.pem)
    return provider.form({**filled, "txnTime": unionpay_time(NOW_S), **fields})


def unionpay_sent(form: Mapping[str, str]) -> Request:
    return plain("POST", "/notify/unionpay", {"Content-Type": FORM}, encode_form(form).encode())


async def test_a_unionpay_notification_is_its_merchants(keyring: Keyring) -> None:
    result = await accepted(keyring, "unionpay_notification", unionpay_sent(unionpay_notice(keyring)))
    assert (result.merchant.id, result.proves) == ("bookshop", {"mer_id": "777290058110048"})
    assert result.nonce == "unionpay_notification:unionpay:q-1"
    assert result.key_id == str(keyring.provider.certificate.serial_number)


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"merId": "777290058119999"}, "belongs to no merchant"),
        ({"merId": ""}, "belongs to no merchant"),
        ({"queryId": ""}, "queryId"),
        ({"queryId": "q" * 129}, "queryId"),
    ],
)
async def test_a_unionpay_notification_that_says_too_little(
    keyring: Keyring, fields: dict[str, str], detail: str
) -> None:
    sent = unionpay_sent(unionpay_notice(keyring, **fields))
    await refused(keyring, "unionpay_notification", sent, Reason.CREDENTIAL_INVALID, detail)


async def test_a_merchant_cannot_notify_itself(keyring: Keyring) -> None:
    """Whoever holds a secure key could say that it was paid: a notification takes a certificate."""
    form = {name: value for name, value in unionpay_notice(keyring).items() if name not in ("signature", "signMethod")}
    sent = unionpay_sent(signed_11({**form, "merId": "777290058110049", "signMethod": "11"}, keyring.merchant.secret))
    await refused(keyring, "unionpay_notification", sent, Reason.CREDENTIAL_UNSUPPORTED, "method 01")
    merchant = UnionpayProvider(keyring.merchant.rsa, keyring.merchant.certified.pem)
    sent = unionpay_sent(merchant.form({**form, "signMethod": "01"}))
    await refused(keyring, "unionpay_notification", sent, Reason.CREDENTIAL_INVALID, "unknown key")


# -- tokens ------------------------------------------------------------------------------------------------------------

HEAD = {"alg": "RS256", "kid": "accounts-1"}
CLAIMS = {"iss": "https://id.example", "sub": "bookshop", "aud": "paymesh", "iat": NOW_S, "exp": NOW_S + 60}


@pytest.mark.parametrize("head", [{}, {"typ": "JWT"}, {"typ": "at+jwt"}, {"typ": "application/JWT"}])
async def test_a_token_is_its_subjects(keyring: Keyring, head: dict[str, object]) -> None:
    result = await accepted(keyring, "jwt", token(keyring, HEAD | head, CLAIMS | {"scope": "pay query"}))
    assert (result.merchant.id, result.key_id) == ("bookshop", "accounts/accounts-1")
    assert result.scopes == frozenset({"pay", "query"})


@pytest.mark.parametrize(
    ("head", "claims", "detail"),
    [
        ({"typ": "dpop+jwt"}, {}, "typ"),
        ({"kid": "accounts-2"}, {}, "unknown key"),
        ({}, {"iss": "https://evil.example"}, "unknown key"),
        ({}, {"iss": ["https://id.example"]}, "no issuer"),
        ({}, {"sub": "nobody"}, "no merchant"),
        ({}, {"aud": "another"}, "audience"),
        ({}, {"exp": NOW_S - 61}, "expired"),
        ({}, {"iat": NOW_S + 600}, "future"),
        ({}, {"cnf": {"jkt": "x"}}, "cnf"),
    ],
)
async def test_a_token_that_is_refused(
    keyring: Keyring, head: dict[str, object], claims: dict[str, object], detail: str
) -> None:
    sent = token(keyring, HEAD | head, CLAIMS | claims)
    await refused(keyring, "jwt", sent, Reason.CREDENTIAL_INVALID, detail)


# -- texts that could be cut elsewhere ---------------------------------------------------------------------------------


async def test_a_payers_words_do_not_become_parameters(keyring: Keyring) -> None:
    """Somebody else's free text inside a signed message: neither it nor any other cut of the same text passes."""
    spoken = unionpay_payment(keyring, orderDesc="gift&orderId=2&p=")
    await refused(keyring, "unionpay", spoken, Reason.CREDENTIAL_INVALID, "orderId could be read in two ways")
    cut = replace(spoken, body=spoken.body.replace(b"orderDesc=gift%26orderId%3D2%26p%3D", b"orderDesc=gift"))
    cut = replace(cut, body=cut.body.replace(b"orderId=1", b"orderId=2&p=%26orderId%3D1"))
    assert keyring.signed("unionpay", replace(spoken, body=b"")) != keyring.signed("unionpay", cut)
    await refused(keyring, "unionpay", cut, Reason.CREDENTIAL_INVALID, "orderId could be read in two ways")
    paid = alipay_notice(keyring, body="gift&notify_id=n&notify_time=x&out_trade_no=2&p=")
    await refused(keyring, "alipay_notification", paid, Reason.CREDENTIAL_INVALID, "could be read in two ways")


@pytest.mark.parametrize(
    "fields",
    [
        {"backUrl": "https://m.example.com/back?a=1&b=2"},
        {"frontUrl": "https://m.example.com/paid?shop=1&orderId=1"},
        {"orderDesc": "测试 100%+商品&A=1"},
        {"riskRateInfo": "{commodityName=a&goodsCategory=b}"},
    ],
)
async def test_genuine_texts_with_ampersands_pass(keyring: Keyring, fields: dict[str, str]) -> None:
    await accepted(keyring, "unionpay", unionpay_payment(keyring, **fields))
