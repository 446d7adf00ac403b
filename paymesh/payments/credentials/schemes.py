"""Owns the list of credential schemes. A new one: a module beside this, a policy model, a line here."""

from __future__ import annotations

from collections.abc import Mapping

from paymesh.payments.credentials.alipay_notification import AlipayNotification
from paymesh.payments.credentials.alipay_v2 import AlipayV2
from paymesh.payments.credentials.alipay_v3 import AlipayV3
from paymesh.payments.credentials.claim import CredentialScheme
from paymesh.payments.credentials.hmac_sha256 import HmacSha256
from paymesh.payments.credentials.http_message_signatures import HttpMessageSignatures
from paymesh.payments.credentials.jwt import Jwt
from paymesh.payments.credentials.mtls import Mtls
from paymesh.payments.credentials.unionpay import Unionpay, UnionpayNotification
from paymesh.payments.credentials.wechat_v3 import WechatV3
from paymesh.payments.credentials.wechat_v3_notification import WechatV3Notification
from paymesh.payments.policy.callers import Scheme

SCHEMES: Mapping[Scheme, CredentialScheme] = {
    scheme.scheme: scheme
    for scheme in (
        WechatV3(),
        WechatV3Notification(),
        AlipayV2(),
        AlipayV3(),
        AlipayNotification(),
        Unionpay(),
        UnionpayNotification(),
        HmacSha256(),
        HttpMessageSignatures(),
        Jwt(),
        Mtls(),
    )
}
