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

from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.json_body import parse_json
from paymesh.payments.bodies.limits import BodyLimits
from paymesh.payments.credentials.claim import (
    MAX_CREDENTIAL_CHARS,
    MAX_NONCE_CHARS,
    Asked,
    Authenticated,
    Claim,
    decode_base64,
    invalid,
    is_nonce,
    notified,
    parse_timestamp,
)
from paymesh.payments.credentials.wechat_v3 import AUTHORIZATION_TYPE, WINDOW_S
from paymesh.payments.denial import Denial
from paymesh.payments.policy.callers import Algorithm, CredentialKey, KeyKind, KeyRef, Scheme
from paymesh.payments.policy.compile_credentials import normalize_serial
from paymesh.payments.policy.compiled import Route
from paymesh.payments.request import Request
from paymesh.payments.secrets import Secret

_SIGNATURE = "wechatpay-signature"
_ALGORITHM = "AEAD_AES_256_GCM"


class WechatV3Notification:
    scheme = Scheme.WECHAT_V3_NOTIFICATION

    def recognises(self, request: Request) -> bool:
        return _SIGNATURE in request.headers

    def read(self, request: Request, route: Route) -> Claim | Denial:
        header, stamp = request.header(_SIGNATURE) or "", request.header("wechatpay-timestamp")
        nonce, serial = request.header("wechatpay-nonce") or "", request.header("wechatpay-serial") or ""
        timestamp = parse_timestamp(stamp)
        if timestamp is None or not is_nonce(nonce) or len(header) > MAX_CREDENTIAL_CHARS:
            return invalid("Wechatpay-Timestamp, -Nonce or -Signature is not well formed")
        # Absent in old integrations, where only this algorithm exists; anything else is another algorithm.
        if request.header("wechatpay-signature-type") not in (None, AUTHORIZATION_TYPE):
            return invalid("Wechatpay-Signature-Type is not supported")
        signature = decode_base64(header)
        if signature is None:
            return invalid("Wechatpay-Signature is not base64")
        channel = route.channels[0].name
        return Claim(
            scheme=self.scheme,
            key=KeyRef(KeyKind.PROVIDER, f"{channel}/{normalize_serial(serial)}"),
            algorithm=Algorithm.RSA_SHA256,
            signature=signature,
            signed=f"{stamp}\n{nonce}\n".encode("utf-8", "surrogateescape") + request.body + b"\n",
            timestamp_s=timestamp,
            window_s=WINDOW_S,
            nonce=nonce,
        )

    async def accept(self, claim: Claim, key: CredentialKey, asked: Asked) -> Authenticated | Denial:
        notifications = asked.route.notifications
        assert notifications is not None  # a notify route without them is refused at load
        assert notifications.apiv3_key is not None
        read = decrypt_resource(asked.request.body, notifications.apiv3_key, asked.route.request_reading.limits)
        if isinstance(read, str):
            return invalid(read)
        notification_id, notice = read
        mchid = notice.get("mchid", notice.get("sp_mchid"))
        ref = KeyRef(KeyKind.MCHID, mchid) if isinstance(mchid, str) else None
        merchant = None if ref is None else await asked.directory.merchant(asked.policy, ref)
        if ref is None or merchant is None:
            return invalid("the notified mchid belongs to no merchant")
        proves = {"mchid": ref.name}
        return notified(claim, key, merchant, asked, proves=proves, document=notice, notification_id=notification_id)


def decrypt_resource(
    body: bytes, apiv3_key: Secret, limits: BodyLimits
) -> tuple[str | None, Mapping[str, object]] | str:
    """The notification's `id` and its decrypted `resource` as JSON, or what is wrong with it (never its content).

    The id is the same each time that the provider repeats a notification; the nonce is not. None: it has none.
    """
    try:
        document = parse_json(body, limits).value
        resource = document.get("resource") if isinstance(document, dict) else None
        if not isinstance(resource, dict) or resource.get("algorithm") != _ALGORITHM:
            return f"the body has no resource encrypted with {_ALGORITHM}"
        parts = [resource.get("nonce"), resource.get("ciphertext"), resource.get("associated_data") or ""]
        nonce, ciphertext, associated = (part.encode() if isinstance(part, str) else b"" for part in parts)
        plain = AESGCM(apiv3_key.reveal()).decrypt(nonce, base64.b64decode(ciphertext, validate=True), associated)
        notice = parse_json(plain, limits).value
    except BodyError as error:
        return f"the body or its resource is not acceptable JSON ({error.kind})"
    except (InvalidTag, binascii.Error, ValueError):
        return "the resource does not decrypt"
    if not isinstance(notice, dict):
        return "the decrypted resource is no object"
    found = document["id"] if isinstance(document, dict) and "id" in document else None
    usable = isinstance(found, str) and 0 < len(found) <= MAX_NONCE_CHARS
    return found if usable else None, notice
