"""Owns WeChat Pay v3 notifications: the platform's signature in headers, the encrypted resource in the body.

The resource is decrypted for the checks only; the body is forwarded as it came. Source: WeChat Pay, "notification
verification and decryption" (pay.weixin.qq.com/doc/v3/merchant/4012071382). A notification's merchant is the one
whose `mchid` stands in the decrypted resource.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from paymesh.payments.credentials.authenticated import (
    MAX_CREDENTIAL_CHARS,
    MAX_NONCE_CHARS,
    Authenticated,
    OnRepeat,
    invalid,
    parse_timestamp,
)
from paymesh.payments.credentials.rsa_sha256 import verifies
from paymesh.payments.credentials.wechat_v3 import AUTHORIZATION_TYPE, WINDOW_S
from paymesh.payments.denial import Denial
from paymesh.payments.json_body import BodyError, parse_json
from paymesh.payments.policy.compile import normalize_serial
from paymesh.payments.policy.compiled import Policy, Route, Scheme
from paymesh.payments.request import Request
from paymesh.payments.secrets import Secret

_SIGNATURE = "wechatpay-signature"
_ALGORITHM = "AEAD_AES_256_GCM"


class WechatV3Notification:
    scheme = Scheme.WECHAT_V3_NOTIFICATION

    def recognises(self, request: Request) -> bool:
        return _SIGNATURE in request.headers

    def verify(self, request: Request, route: Route, policy: Policy) -> Authenticated | Denial:
        keys = policy.notification_keys[route.channels[0].name]
        signature, stamp = request.header(_SIGNATURE) or "", request.header("wechatpay-timestamp")
        nonce, serial = request.header("wechatpay-nonce") or "", request.header("wechatpay-serial") or ""
        timestamp = parse_timestamp(stamp)
        if timestamp is None or not 0 < len(nonce) <= MAX_NONCE_CHARS or len(signature) > MAX_CREDENTIAL_CHARS:
            return invalid("Wechatpay-Timestamp, -Nonce or -Signature is not well formed")
        # Absent in old integrations, where only this algorithm exists; anything else is another algorithm.
        if request.header("wechatpay-signature-type") not in (None, AUTHORIZATION_TYPE):
            return invalid("Wechatpay-Signature-Type is not supported")
        key = keys.platform_keys.get(normalize_serial(serial))
        if key is None:
            return invalid("unknown Wechatpay-Serial")
        message = f"{stamp}\n{nonce}\n".encode("utf-8", "surrogateescape") + request.body + b"\n"
        if not verifies(key, signature, message):
            return invalid("signature mismatch")
        notice = decrypt_resource(request.body, keys.apiv3_key)
        if isinstance(notice, str):
            return invalid(notice)
        mchid = notice.get("mchid")
        merchant = policy.wechat_merchants.get(mchid) if isinstance(mchid, str) else None
        if merchant is None:
            return invalid("the notified mchid belongs to no merchant")
        return Authenticated(
            merchant=merchant,
            scheme=self.scheme,
            key_id=normalize_serial(serial),
            timestamp_s=timestamp,
            window_s=WINDOW_S,
            nonce=f"{self.scheme}:{keys.channel}:{nonce}",
            on_repeat=OnRepeat.MARK,
            notice=notice,
        )


def decrypt_resource(body: bytes, apiv3_key: Secret) -> Mapping[str, object] | str:
    """The decrypted `resource` as JSON, or what is wrong with it (never its content)."""
    try:
        document = parse_json(body).value
        resource = document.get("resource") if isinstance(document, dict) else None
        if not isinstance(resource, dict) or resource.get("algorithm") != _ALGORITHM:
            return f"the body has no resource encrypted with {_ALGORITHM}"
        parts = [resource.get("nonce"), resource.get("ciphertext"), resource.get("associated_data") or ""]
        nonce, ciphertext, associated = (part.encode() if isinstance(part, str) else b"" for part in parts)
        plain = AESGCM(apiv3_key.reveal()).decrypt(nonce, base64.b64decode(ciphertext, validate=True), associated)
        notice = parse_json(plain).value
    except BodyError as error:
        return f"the body or its resource is not acceptable JSON ({error.kind})"
    except (InvalidTag, binascii.Error, ValueError):
        return "the resource does not decrypt"
    return notice if isinstance(notice, dict) else "the decrypted resource is no object"
