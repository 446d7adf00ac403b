"""Owns UnionPay 5.1.0: form messages signed with a certificate (method 01) or a secure key (11, 12), both ways.

Source: protocols.md section 1; UnionPay, "signature and verification, version 5.1.0" (open.unionpay.com). The text has
every field except `signature`, sorted. Method 01 signs the text's hex digest; its certificate is named by `certId`, and
comes along (`signPubKeyCert`) in what UnionPay sends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from paymesh.payments.china_time import china_seconds
from paymesh.payments.credentials.claim import (
    MAX_CREDENTIAL_CHARS,
    MAX_NONCE_CHARS,
    Asked,
    Authenticated,
    Claim,
    caller_of,
    decode_base64,
    invalid,
    notified,
    unsupported,
)
from paymesh.payments.credentials.verifiers import supports_sm3
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
from paymesh.payments.signers import unionpay_text

WINDOW_S = 900
"""UnionPay states none; its own default for an order's payment is minutes. Queries have none: they carry the time of
the order that they ask about."""
NOTIFICATION_WINDOW_S = 30 * 86_400
"""A notification carries its order's `txnTime`, however late it comes; after a month it is refused."""
QUERY = "00"

_TXN_TIME = re.compile(r"[0-9]{14}", re.ASCII)
_HEX_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_UNSIGNED = frozenset({"signature"})
_DECIDING = deciding(
    "currencyCode", "merId", "orderId", "origQryId", "queryId", "respCode", "txnAmt", "txnTime", "txnType"
)
_SECRET_METHODS = {"11": Algorithm.UNIONPAY_SHA256, "12": Algorithm.UNIONPAY_SM3}


class Unionpay:
    """What a merchant sends."""

    scheme = Scheme.UNIONPAY

    def recognises(self, request: Request) -> bool:
        return carries_form(request)

    def read(self, request: Request, route: Route) -> Claim | Denial:  # noqa: ARG002
        message = _message(request)
        if isinstance(message, Denial):
            return message
        text, values = message
        timestamp = _txn_time(values.get("txnTime", ""))
        if timestamp is None or "merId" not in values or "txnType" not in values:
            return invalid("merId, txnType or txnTime is not well formed")
        method = values.get("signMethod", "")
        mer_id = values["merId"]
        if method == "01":
            algorithm, name = Algorithm.RSA_SHA256, f"{mer_id}/{values.get('certId', '')}"
            signature, signed = decode_base64(values["signature"]), unionpay_text(text)
        elif method in _SECRET_METHODS:
            algorithm = _SECRET_METHODS[method]
            if algorithm is Algorithm.UNIONPAY_SM3 and not supports_sm3():
                return unsupported("signMethod 12 (SM3) is not supported by this build of OpenSSL")
            name = f"{mer_id}/{algorithm}"
            well_formed = _HEX_DIGEST.fullmatch(values["signature"])
            signature, signed = (values["signature"].encode() if well_formed else None), text
        else:
            return unsupported("signMethod is not 01, 11 or 12") if method else invalid("no signMethod")
        if signature is None:
            return invalid("signature is not well formed")
        asks = values["txnType"] == QUERY
        return Claim(
            scheme=self.scheme,
            key=KeyRef(KeyKind.UNIONPAY, name),
            algorithm=algorithm,
            signature=signature,
            signed=signed,
            text=text,
            timestamp_s=None if asks else timestamp,
            window_s=WINDOW_S,
            content=values,
        )

    async def accept(self, claim: Claim, key: CredentialKey, asked: Asked) -> Authenticated | Denial:  # noqa: ARG002
        values = claim.content
        assert isinstance(values, dict)
        return replace(caller_of(claim, key), parameters=values, document=values)


class UnionpayNotification:
    """What UnionPay sends to the merchant's `backUrl`."""

    scheme = Scheme.UNIONPAY_NOTIFICATION

    def recognises(self, request: Request) -> bool:
        return carries_form(request)

    def read(self, request: Request, route: Route) -> Claim | Denial:
        message = _message(request)
        if isinstance(message, Denial):
            return message
        text, values = message
        if values.get("signMethod") != "01":
            # A secure key would be the merchant's own: whoever holds it could tell the merchant that it was paid.
            return unsupported("a notification is signed with method 01")
        timestamp = _txn_time(values.get("txnTime", ""))
        signature = decode_base64(values["signature"])
        query_id = values.get("queryId", "")
        certificate = values.get("signPubKeyCert", "")
        if timestamp is None or signature is None or not 0 < len(query_id) <= MAX_NONCE_CHARS or not certificate:
            return invalid("txnTime, queryId, signPubKeyCert or signature is not well formed")
        return Claim(
            scheme=self.scheme,
            key=KeyRef(KeyKind.PROVIDER, route.channels[0].name),
            algorithm=Algorithm.RSA_SHA256,
            signature=signature,
            signed=unionpay_text(text),
            timestamp_s=timestamp,
            window_s=NOTIFICATION_WINDOW_S,
            nonce=query_id,
            presented=certificate.encode("utf-8", "surrogateescape"),
            content=values,
        )

    async def accept(self, claim: Claim, key: CredentialKey, asked: Asked) -> Authenticated | Denial:
        values = claim.content
        assert isinstance(values, dict)
        mer_id = values.get("merId", "")
        merchant = await asked.directory.merchant(asked.policy, KeyRef(KeyKind.MER_ID, mer_id))
        if merchant is None:
            return invalid("the notified merId belongs to no merchant")
        return notified(claim, key, merchant, asked, proves={"mer_id": mer_id}, document=values, parameters=values)


def _message(request: Request) -> tuple[bytes, Mapping[str, str]] | Denial:
    """The text to sign, and the fields."""
    if request.query:
        return invalid("a query would not be signed")
    try:
        parameters = parse_parameters(request.body)
        values = as_text(parameters, parameters.get("encoding", b"utf-8").decode("ascii", "replace"))
        text = joined(parameters, _UNSIGNED, keep_empty=True)
        check_one_reading(text, parameters, _DECIDING)
    except FormError as error:
        return invalid(str(error))
    if "signature" not in values:
        return Denial(Reason.CREDENTIAL_MISSING, "no signature among the fields")
    if len(values["signature"]) > MAX_CREDENTIAL_CHARS:
        return invalid("signature is not well formed")
    if values.get("version") != "5.1.0":
        return unsupported("version is not 5.1.0")
    return text, values


def _txn_time(text: str) -> int | None:
    """`yyyyMMddHHmmss`, Asia/Shanghai, as Unix seconds; else None."""
    return china_seconds(text, "%Y%m%d%H%M%S") if _TXN_TIME.fullmatch(text) else None
