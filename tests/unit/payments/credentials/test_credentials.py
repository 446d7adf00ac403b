"""Each scheme against vectors that nobody here made, and against systematic changes of a genuine message."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from paymesh.cli.demo.signing import HmacMerchant, WechatMerchant, WechatPlatform
from paymesh.payments.credentials.authenticate import authenticate
from paymesh.payments.credentials.claim import Asked, Authenticated
from paymesh.payments.credentials.directory import PolicyKeys
from paymesh.payments.credentials.schemes import SCHEMES
from paymesh.payments.credentials.verifiers import RsaSha256
from paymesh.payments.credentials.wechat_v3 import parse_authorization
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.policy.callers import CredentialKey, KeyKind, KeyRef, Scheme
from paymesh.payments.policy.compiled import Notifications, Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.request import Request
from paymesh.payments.secrets import Secret

REPOSITORY = Path(__file__).resolve().parents[4]
VECTORS = REPOSITORY / "tests" / "vectors"
NOW_S = int(time.time())
SERIAL = "408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB"


@pytest.fixture(scope="module")
def policy(demo_environ: dict[str, str]) -> Policy:
    return load_policy([REPOSITORY / "examples" / "demo"], demo_environ)


def public_key(name: str) -> RSAPublicKey:
    key = load_pem_public_key((VECTORS / name).read_bytes())
    assert isinstance(key, RSAPublicKey)
    return key


def request(method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Request:
    return Request(method, target, {name.lower(): (value,) for name, value in headers.items()}, body, "id-1")


def verify(policy: Policy, route: str, scheme: Scheme, sent: Request) -> Authenticated | Denial:
    asked = Asked(sent, policy.routes_by_name[route], policy, PolicyKeys(), NOW_S)
    return asyncio.run(authenticate(SCHEMES[scheme], asked))


def refused(result: Authenticated | Denial) -> bool:
    return isinstance(result, Denial) and result.reason is Reason.CREDENTIAL_INVALID


def test_the_provider_documents_own_request_vector(policy: Policy) -> None:
    vector = json.loads((VECTORS / "wechat_official_doc_vector.json").read_text())
    method, target, *_ = vector["string_to_sign"].split("\n")
    header = vector["authorization"].replace("<signature>", vector["signature"])
    key = CredentialKey(SERIAL, RsaSha256(public_key(vector["public_key"])), policy.merchants["bookshop"], {})
    documented = replace(policy, keys={KeyRef(KeyKind.WECHAT, f"1900007291/{SERIAL}"): (key,)})
    result = verify(documented, "wechat-query", Scheme.WECHAT_V3, request(method, target, {"Authorization": header}))
    assert isinstance(result, Authenticated)
    assert (result.merchant.id, result.timestamp_s) == ("bookshop", 1554208460)


def test_a_notification_made_by_another_implementation(policy: Policy) -> None:
    vector = json.loads((VECTORS / "wechat_callback.json").read_text())
    serial = vector["headers"]["Wechatpay-Serial"]
    key = CredentialKey(serial, RsaSha256(public_key("platform_pub.pem")), None, {})
    notify = policy.routes_by_name["wechat-notify"]
    notifications = Notifications(Scheme.WECHAT_V3_NOTIFICATION, Secret(vector["apiv3_key"].encode()))
    recorded = replace(
        policy,
        keys={KeyRef(KeyKind.PROVIDER, f"wechat/{serial}"): (key,)},
        routes_by_name={"wechat-notify": replace(notify, notifications=notifications)},
    )
    sent = request("POST", "/notify/wechat", vector["headers"], vector["body"].encode())
    result = verify(recorded, "wechat-notify", Scheme.WECHAT_V3_NOTIFICATION, sent)
    assert isinstance(result, Authenticated), result
    assert isinstance(result.document, dict)
    assert result.document["out_trade_no"] == "1217752501201407033233368018"
    assert refused(
        verify(recorded, "wechat-notify", Scheme.WECHAT_V3_NOTIFICATION, replace(sent, body=sent.body + b" "))
    )


class TestWechat:
    TARGET = "/v3/pay/transactions/native"
    BODY = b'{"out_trade_no": "1", "amount": {"total": 100}, "description": "\xe8\x8c\xb6"}'

    @pytest.fixture
    def merchant(self, demo_keys: Path) -> WechatMerchant:
        return WechatMerchant.from_file("1900007291", SERIAL, demo_keys / "wechat_merchant.pem")

    @pytest.fixture
    def sent(self, merchant: WechatMerchant) -> Request:
        return request("POST", self.TARGET, merchant.headers("POST", self.TARGET, self.BODY), self.BODY)

    def check(self, policy: Policy, sent: Request) -> Authenticated | Denial:
        return verify(policy, "wechat-native", Scheme.WECHAT_V3, sent)

    def test_accepted(self, policy: Policy, sent: Request) -> None:
        result = self.check(policy, sent)
        assert isinstance(result, Authenticated)
        assert result.merchant.id == "bookshop"

    def test_fields_in_any_order_and_serials_in_either_case(self, policy: Policy, sent: Request) -> None:
        value = sent.headers["authorization"][0]
        kind, _, fields = value.partition(" ")
        turned = ", ".join(reversed(fields.replace(SERIAL, SERIAL.lower()).split(",")))
        assert isinstance(
            self.check(policy, replace(sent, headers={"authorization": (f"{kind} {turned}",)})), Authenticated
        )

    def test_every_signed_part_counts(self, policy: Policy, sent: Request) -> None:
        header = sent.headers["authorization"][0]
        changed = [
            replace(sent, body=sent.body.replace(b"100", b"101")),
            replace(sent, body=sent.body + b"\n"),
            replace(sent, body=b""),
            replace(sent, method="PUT"),
            replace(sent, target=self.TARGET + "?a=1"),
            replace(sent, target="/v3/pay/transactions/app"),
        ]
        for name in ("nonce_str", "timestamp", "signature", "serial_no", "mchid"):
            at = header.index(f'{name}="') + len(name) + 2
            other = "1" if header[at] != "1" else "2"
            changed.append(replace(sent, headers={"authorization": (header[:at] + other + header[at + 1 :],)}))
        for variant in changed:
            assert refused(self.check(policy, variant)), variant

    def test_two_authorization_headers_decide_nothing(self, policy: Policy, sent: Request) -> None:
        twice = sent.headers["authorization"] * 2
        assert refused(self.check(policy, replace(sent, headers={"authorization": twice})))

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "WECHATPAY2-SHA256-RSA2048",
            'WECHATPAY2-SM2-WITH-SM3 mchid="1"',
            'WECHATPAY2-SHA256-RSA2048 mchid="1",mchid="2"',
            'WECHATPAY2-SHA256-RSA2048 mchid="1",extra="2"',
            "WECHATPAY2-SHA256-RSA2048 mchid=1",
            'WECHATPAY2-SHA256-RSA2048 mchid="1"' + " " * 5000,
        ],
    )
    def test_a_header_that_is_not_well_formed(self, value: str) -> None:
        assert isinstance(parse_authorization(value), str)

    @given(value=st.text(max_size=300))
    def test_any_header_is_parsed_or_refused(self, value: str) -> None:
        parse_authorization(value)
        parse_authorization(f"WECHATPAY2-SHA256-RSA2048 {value}")


class TestHmac:
    TARGET = "/v1/payments?trace=1"
    BODY = b'{"order_no":"1"}'

    @pytest.fixture
    def merchant(self, demo_keys: Path) -> HmacMerchant:
        return HmacMerchant.from_file("teahouse-2026", demo_keys / "hmac_card.key")

    @pytest.fixture
    def sent(self, merchant: HmacMerchant) -> Request:
        return request("POST", self.TARGET, merchant.headers("POST", self.TARGET, self.BODY), self.BODY)

    def check(self, policy: Policy, sent: Request) -> Authenticated | Denial:
        return verify(policy, "payments", Scheme.HMAC, sent)

    def test_accepted(self, policy: Policy, sent: Request) -> None:
        result = self.check(policy, sent)
        assert isinstance(result, Authenticated)
        assert result.merchant.id == "teahouse"

    def test_every_signed_part_counts(self, policy: Policy, sent: Request) -> None:
        changed = [
            replace(sent, body=b"{}"),
            replace(sent, method="PUT"),
            replace(sent, target="/v1/payments"),
            replace(sent, target="/v1/payments?trace=2"),
        ]
        for name in ("paymesh-key", "paymesh-timestamp", "paymesh-nonce", "paymesh-signature"):
            value = sent.headers[name][0]
            for other in ("", value[:-1], value + "0", ("0" if value[0] != "0" else "1") + value[1:], "é" + value):
                changed.append(replace(sent, headers={**sent.headers, name: (other,)}))
            changed.append(replace(sent, headers={k: v for k, v in sent.headers.items() if k != name}))
        changed.append(
            replace(
                sent, headers={**sent.headers, "paymesh-signature": (sent.headers["paymesh-signature"][0].upper(),)}
            )
        )
        for variant in changed:
            if variant.headers.get("paymesh-signature") == sent.headers["paymesh-signature"] and variant == sent:
                continue
            assert refused(self.check(policy, variant)), variant

    def test_another_merchants_key_does_not_sign_for_this_one(self, policy: Policy, demo_keys: Path) -> None:
        wrong = HmacMerchant.from_file("teahouse-2026", demo_keys / "hmac_limited.key")
        sent = request("POST", self.TARGET, wrong.headers("POST", self.TARGET, self.BODY), self.BODY)
        assert refused(self.check(policy, sent))

    @pytest.mark.parametrize("name", ["paymesh-key", "paymesh-timestamp", "paymesh-nonce", "paymesh-signature"])
    def test_a_repeated_header_decides_nothing(self, policy: Policy, sent: Request, name: str) -> None:
        assert refused(self.check(policy, replace(sent, headers={**sent.headers, name: sent.headers[name] * 2})))


class TestNotification:
    RESOURCE: ClassVar = {"mchid": "1900007291", "out_trade_no": "no-1", "trade_state": "SUCCESS"}

    def check(self, policy: Policy, headers: dict[str, str], body: bytes) -> Authenticated | Denial:
        sent = request("POST", "/notify/wechat", headers, body)
        return verify(policy, "wechat-notify", Scheme.WECHAT_V3_NOTIFICATION, sent)

    def test_the_merchant_is_the_one_in_the_decrypted_resource(self, policy: Policy, demo_keys: Path) -> None:
        result = self.check(policy, *WechatPlatform.from_folder(demo_keys).notification(self.RESOURCE))
        assert isinstance(result, Authenticated)
        assert result.merchant.id == "bookshop"

    def test_refused(self, policy: Policy, demo_keys: Path) -> None:
        platform = WechatPlatform.from_folder(demo_keys)
        headers, body = platform.notification(self.RESOURCE)
        forger = replace(platform, key=WechatMerchant.from_file("", "", demo_keys / "wechat_merchant.pem").key)
        stranger = replace(platform, apiv3_key=b"x" * 32)
        plain = b'{"resource": {"algorithm": "none"}}'
        for bad_headers, bad_body in [
            (headers, body.replace(b"SUCCESS", b"CLOSED!")),
            ({**headers, "Wechatpay-Nonce": "other"}, body),
            ({**headers, "Wechatpay-Timestamp": str(int(headers["Wechatpay-Timestamp"]) + 1)}, body),
            ({**headers, "Wechatpay-Serial": "PUB_KEY_ID_2"}, body),
            ({**headers, "Wechatpay-Signature-Type": "WECHATPAY2-SM2-WITH-SM3"}, body),
            ({**headers, "Wechatpay-Signature": ""}, body),
            forger.notification(self.RESOURCE),
            stranger.notification(self.RESOURCE),
            platform.notification({**self.RESOURCE, "mchid": "1"}),
            platform.notification({**self.RESOURCE, "mchid": ["1900007291"]}),
            (platform.sign(plain), plain),
            (platform.sign(b"[]"), b"[]"),
            (platform.sign(b"\xff"), b"\xff"),
        ]:
            assert refused(self.check(policy, bad_headers, bad_body)), bad_headers
