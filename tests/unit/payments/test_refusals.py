"""Every reason in every protocol, as the callers' SDKs read it, and signed where they verify it."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from paymesh.payments.denial import Denial, Reason
from paymesh.payments.policy.compiled import Protocol
from paymesh.payments.refusals import Addressee, protocol_of, write_refusal
from paymesh.payments.signers import Signer

JSON_PROTOCOLS = [Protocol.PAYMESH, Protocol.WECHAT_V3, Protocol.WECHAT_NOTIFICATION, Protocol.ALIPAY_V3]


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def verify(key: rsa.RSAPrivateKey, signature: str, text: bytes) -> None:
    key.public_key().verify(base64.b64decode(signature), text, padding.PKCS1v15(), SHA256())


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("protocol", JSON_PROTOCOLS)
def test_json_protocols_have_a_status_a_code_and_a_message(protocol: Protocol, reason: Reason) -> None:
    refusal = write_refusal(Denial(reason, "secret detail"), Addressee(protocol, "id-1", {}))
    document = json.loads(refusal.body)
    assert refusal.status >= 400
    assert set(document) == {"code", "message"}
    assert all(isinstance(value, str) and value for value in document.values())
    assert dict(refusal.headers)["x-pay-reason"] == reason
    assert dict(refusal.headers)["x-pay-request-id"] == "id-1"
    assert b"secret detail" not in refusal.body
    if protocol is Protocol.WECHAT_NOTIFICATION:
        assert document["code"] == "FAIL"


def test_an_outage_never_looks_like_a_refusal() -> None:
    outage = {
        protocol: write_refusal(Denial(Reason.UNAVAILABLE, ""), Addressee(protocol, "", {})) for protocol in Protocol
    }
    assert {refusal.status for refusal in outage.values()} == {200, 503}
    assert json.loads(outage[Protocol.ALIPAY_V2].body)["error_response"]["code"] == "20000"
    assert b"respCode=02" in outage[Protocol.UNIONPAY].body


@pytest.mark.parametrize("reason", list(Reason))
def test_alipay_v2_is_a_200_whose_answer_is_signed_as_it_stands(reason: Reason, key: rsa.RSAPrivateKey) -> None:
    to = Addressee(Protocol.ALIPAY_V2, "id", {Protocol.ALIPAY_V2: Signer(key, "")}, "alipay.trade.pay")
    refusal = write_refusal(Denial(reason, "detail", told=("/biz_content/金额",)), to)
    assert refusal.status == 200
    text = refusal.body.decode("ascii")  # readable in gbk as in utf-8
    answer = text[text.index(":") + 1 : text.index(',"sign"')]
    assert list(json.loads(text)) == ["alipay_trade_pay_response", "sign"]
    assert set(json.loads(answer)) == {"code", "msg", "sub_code", "sub_msg"}
    assert json.loads(answer)["code"] != "10000"
    verify(key, json.loads(text)["sign"], answer.encode())


def test_alipay_certificates_are_named_to_callers_in_certificate_mode_only(key: rsa.RSAPrivateKey) -> None:
    signers = {Protocol.ALIPAY_V2: Signer(key, "c0ffee")}
    denial = Denial(Reason.RATE_LIMITED, "")
    plain = write_refusal(denial, Addressee(Protocol.ALIPAY_V2, "", signers))
    certified = write_refusal(denial, Addressee(Protocol.ALIPAY_V2, "", signers, None, True))
    assert "alipay_cert_sn" not in json.loads(plain.body)
    assert json.loads(certified.body)["alipay_cert_sn"] == "c0ffee"


def test_alipay_v2_without_a_signer_is_readable_all_the_same() -> None:
    refusal = write_refusal(Denial(Reason.CREDENTIAL_INVALID, ""), Addressee(Protocol.ALIPAY_V2, "", {}))
    assert list(json.loads(refusal.body)) == ["error_response"]


@pytest.mark.parametrize("reason", list(Reason))
def test_unionpay_is_a_signed_form(reason: Reason, key: rsa.RSAPrivateKey) -> None:
    signer = Signer(key, "1234", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")
    refusal = write_refusal(Denial(reason, "detail"), Addressee(Protocol.UNIONPAY, "", {Protocol.UNIONPAY: signer}))
    fields = dict(part.split("=", 1) for part in refusal.body.decode().split("&"))
    signature = fields.pop("signature")
    text = "&".join(f"{name}={fields[name]}" for name in sorted(fields))
    assert refusal.status == 200
    assert fields["respCode"] not in ("", "00")
    assert (fields["signMethod"], fields["certId"]) == ("01", "1234")
    verify(key, signature, hashlib.sha256(text.encode()).hexdigest().encode())


def test_a_refusal_is_signed_once_and_a_sandbox_hint_each_time(key: rsa.RSAPrivateKey) -> None:
    signed: list[bytes] = []

    class Counting(Signer):
        def sign(self, text: bytes) -> str:
            signed.append(text)
            return "sig"

    to = Addressee(Protocol.ALIPAY_V2, "", {Protocol.ALIPAY_V2: Counting(key, "")})
    for _ in range(3):
        write_refusal(Denial(Reason.CREDENTIAL_INVALID, ""), to)
    assert len(signed) == 1
    hinted = write_refusal(Denial(Reason.CREDENTIAL_INVALID, "", hint="app_id=1&charset=utf-8"), to)
    assert len(signed) == 2
    assert b"app_id=1&charset=utf-8" in hinted.body


@pytest.mark.parametrize(
    ("path", "protocol"),
    [
        ("/v3/pay/unknown", Protocol.WECHAT_V3),
        ("/v3/alipay/unknown", Protocol.ALIPAY_V3),
        ("/gateway.do", Protocol.ALIPAY_V2),
        ("/anything", Protocol.PAYMESH),
    ],
)
def test_a_path_of_no_route_is_answered_in_the_likeliest_language(path: str, protocol: Protocol) -> None:
    assert protocol_of(None, path) is protocol
