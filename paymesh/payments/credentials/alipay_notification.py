"""Owns Alipay's asynchronous notifications: a form POST signed with the provider's key.

Source: protocols.md section 1; Alipay, "verifying asynchronous notifications" (opendocs.alipay.com/common/02mse3). The
text drops `sign` and `sign_type` and empty values. A notification's merchant is the one with the notified `app_id`.
"""

from __future__ import annotations

from paymesh.payments.credentials.alipay_v2 import parse_china_time
from paymesh.payments.credentials.claim import (
    MAX_CREDENTIAL_CHARS,
    MAX_NONCE_CHARS,
    Asked,
    Authenticated,
    Claim,
    decode_base64,
    invalid,
    notified,
    unsupported,
)
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.policy.callers import Algorithm, CredentialKey, KeyKind, KeyRef, Scheme
from paymesh.payments.policy.compiled import Route
from paymesh.payments.request import Request
from paymesh.payments.signed_form import (
    FormError,
    as_text,
    carries_form,
    check_one_reading,
    deciding,
    joined,
    parse_parameters,
)

WINDOW_S = 26 * 3600
"""Repeats keep their `notify_id`; the last one comes some 24 h 23 min after the first (protocols.md section 1). Whether
`notify_time` is then the first or the latest attempt's is not documented, so the window covers both."""
_UNSIGNED = frozenset({"sign", "sign_type"})
_DECIDING = deciding(
    "app_id",
    "auth_app_id",
    "notify_id",
    "notify_time",
    "notify_type",
    "out_biz_no",
    "out_trade_no",
    "refund_fee",
    "seller_id",
    "total_amount",
    "trade_no",
    "trade_status",
)


class AlipayNotification:
    scheme = Scheme.ALIPAY_NOTIFICATION

    def recognises(self, request: Request) -> bool:
        return carries_form(request)

    def read(self, request: Request, route: Route) -> Claim | Denial:
        if request.query:
            return invalid("a notification has no query: its parameters would not be signed")
        try:
            parameters = parse_parameters(request.body)
            charset = parameters.get("charset", b"utf-8").decode("ascii", "replace")
            values = as_text(parameters, charset)
            text = joined(parameters, _UNSIGNED)
            check_one_reading(text, parameters, _DECIDING)
        except FormError as error:
            return invalid(str(error))
        if "sign" not in values:
            return Denial(Reason.CREDENTIAL_MISSING, "no sign among the parameters")
        if values.get("sign_type") != "RSA2":
            return unsupported("sign_type is not RSA2")
        sign = values["sign"]
        signature = decode_base64(sign) if len(sign) <= MAX_CREDENTIAL_CHARS else None
        timestamp = parse_china_time(values.get("notify_time", ""))
        notify_id = values.get("notify_id", "")
        if signature is None or timestamp is None or not 0 < len(notify_id) <= MAX_NONCE_CHARS:
            return invalid("sign, notify_time or notify_id is not well formed")
        return Claim(
            scheme=self.scheme,
            key=KeyRef(KeyKind.PROVIDER, route.channels[0].name),
            algorithm=Algorithm.RSA_SHA256,
            signature=signature,
            signed=text,
            timestamp_s=timestamp,
            window_s=WINDOW_S,
            nonce=notify_id,
            content=values,
        )

    async def accept(self, claim: Claim, key: CredentialKey, asked: Asked) -> Authenticated | Denial:
        values = claim.content
        assert isinstance(values, dict)
        app_id = values.get("app_id", "")
        merchant = await asked.directory.merchant(asked.policy, KeyRef(KeyKind.APP_ID, app_id))
        if merchant is None:
            return invalid("the notified app_id belongs to no merchant")
        proves = {"app_id": app_id}
        if "seller_id" in values:
            proves["seller_id"] = values["seller_id"]
        return notified(claim, key, merchant, asked, proves=proves, document=values, parameters=values)
