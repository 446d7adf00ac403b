"""Owns the list of channels that the suite runs on: one entry for each adapter of the registry."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from paymesh.cli.demo.providers import APP_ID, MER_ID
from paymesh.cli.demo.rsa_signing import load_key
from paymesh.cli.demo.unionpay_signing import cert_id, read_answer, write_answer
from paymesh.cli.demo.world import MCHID, SERIAL_NO
from paymesh.cli.samples.simulators import build_alipay, build_unionpay, build_wechat
from paymesh.cli.stack.demo_certificates import UNIONPAY_NAME
from paymesh.payments.adapters.alipay_v2 import ALIPAY_V2
from paymesh.payments.adapters.contract import ChannelIdentity
from paymesh.payments.adapters.unionpay import UNIONPAY
from paymesh.payments.adapters.wechat_v3 import WECHAT_V3
from paymesh.payments.credentials.verifiers import RsaSha256
from paymesh.payments.policy.callers import CredentialKey
from paymesh.payments.policy.certificates import CertificateTrust
from paymesh.payments.signers import Signer
from tests.channels.harness import Channel, Heard

PLATFORM_SERIAL = "PUB_KEY_ID_0000000000000000001"
NOTIFY_URL = "https://gateway.example/notify?channel=1&from=paymesh"


def provider_key(file: Path) -> CredentialKey:
    key = serialization.load_pem_public_key(file.read_bytes())
    assert isinstance(key, rsa.RSAPublicKey)
    return CredentialKey(file.name, RsaSha256(key), None, {})


def alipay_identity(keys: Path) -> ChannelIdentity:
    return ChannelIdentity(
        account=APP_ID,
        signer=Signer(load_key(keys / "alipay_merchant.pem"), ""),
        provider_keys={"": (provider_key(keys / "alipay_platform_pub.pem"),)},
        notify_url=NOTIFY_URL,
    )


def wechat_identity(keys: Path) -> ChannelIdentity:
    return ChannelIdentity(
        account=MCHID,
        app_id="wx8888888888888888",
        signer=Signer(load_key(keys / "wechat_merchant.pem"), SERIAL_NO),
        provider_keys={PLATFORM_SERIAL: (provider_key(keys / "wechat_platform_pub.pem"),)},
        notify_url=NOTIFY_URL,
    )


def unionpay_identity(keys: Path) -> ChannelIdentity:
    certificate = (keys / "unionpay_merchant.crt").read_bytes()
    authority = x509.load_pem_x509_certificate((keys / "unionpay_ca.crt").read_bytes())
    return ChannelIdentity(
        account=MER_ID,
        signer=Signer(load_key(keys / "unionpay_merchant.pem"), cert_id(certificate)),
        trust=CertificateTrust((authority,), re.compile(re.escape(UNIONPAY_NAME))),
        notify_url=NOTIFY_URL,
    )


def _without_headers(heard: Heard) -> Heard:
    kept = {name: value for name, value in heard.headers.items() if not name.startswith("wechatpay-")}
    return dataclasses.replace(heard, headers=kept)


def _without_sign(heard: Heard) -> Heard:
    document = json.loads(heard.body)
    del document["sign"]
    return dataclasses.replace(heard, body=json.dumps(document).encode())


def _without_signature(heard: Heard) -> Heard:
    fields = {name: value for name, value in read_answer(heard.body).items() if name != "signature"}
    return dataclasses.replace(heard, body=write_answer(fields))


CHANNELS: Mapping[str, Channel] = {
    "alipay_v2": Channel(ALIPAY_V2, "qr", build_alipay, alipay_identity, _without_sign),
    "wechat_v3": Channel(WECHAT_V3, "qr", build_wechat, wechat_identity, _without_headers),
    "unionpay": Channel(
        UNIONPAY,
        "qr",
        build_unionpay,
        unionpay_identity,
        _without_signature,
        # Its messages are not encoded: what would end a field is written full-width, as its own demo advises.
        shown=lambda subject: f"{{commodityName={subject.translate(str.maketrans('&={}[]', '＆＝｛｝［］'))}}}",
        closes_unpaid=False,
    ),
}
