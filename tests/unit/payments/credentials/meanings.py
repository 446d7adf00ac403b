"""What a message says, as its protocol defines it, read with the standard library and never with the gateway.

Two requests with one meaning may both pass. A meaning that cannot be read is an exception: nothing equals it.
"""

from __future__ import annotations

import base64
import email
import hashlib
import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, unquote
from urllib.request import parse_http_list, parse_keqv_list

from paymesh.payments.request import Request

Meaning = tuple[object, ...]

ALIPAY_V2_DECIDES = frozenset(
    {"app_id", "app_auth_token", "app_cert_sn", "biz_content", "charset", "method", "sign_type", "timestamp"}
)
ALIPAY_NOTIFICATION_DECIDES = frozenset(
    {"app_id", "notify_id", "notify_time", "out_trade_no", "seller_id", "total_amount", "trade_status"}
)
UNIONPAY_DECIDES = frozenset(
    {"currencyCode", "merId", "orderId", "queryId", "respCode", "signMethod", "txnAmt", "txnTime", "txnType"}
)


def wechat_v3(request: Request) -> Meaning:
    kind, _, rest = only(request, "authorization").partition(" ")
    fields = keyed(kind, "WECHATPAY2-SHA256-RSA2048", rest)
    assert fields.keys() == {"mchid", "serial_no", "nonce_str", "timestamp", "signature"}
    serial = int(fields["serial_no"], 16) if fields["serial_no"].isascii() else None
    line = (request.method, request.target, fields["timestamp"], fields["nonce_str"], request.body)
    return fields["mchid"], serial, *line


def wechat_v3_notification(request: Request) -> Meaning:
    # Old integrations do not name the algorithm, of which there was only this one.
    kind = request.headers.get("wechatpay-signature-type", ("WECHATPAY2-SHA256-RSA2048",))
    names = ("wechatpay-serial", "wechatpay-timestamp", "wechatpay-nonce")
    # Certificate serials are hex, in either case; the gateway knows a key by any spelling of its serial.
    serial, *lines = (only(request, name) for name in names)
    return kind, serial.upper().lstrip("0"), *lines, request.body


def alipay_v2(request: Request) -> Meaning:
    in_body = request.body if "x-www-form-urlencoded" in only(request, "content-type", "").lower() else b""
    unread = b"" if in_body else request.body
    found = merged(request.query.encode("utf-8", "surrogateescape"), in_body)
    return form(found, {"sign"}, ALIPAY_V2_DECIDES, empty=False), unread


def alipay_v3(request: Request) -> Meaning:
    kind, _, rest = only(request, "authorization").partition(" ")
    assert kind == "ALIPAY-SHA256withRSA"
    signed_fields, _, _ = rest.rpartition(",sign=")
    token = only(request, "alipay-app-auth-token", "")
    return signed_fields, request.method, request.target, token, _alipay_v3_body(request)


def _alipay_v3_body(request: Request) -> bytes:
    content_type = only(request, "content-type", "")
    if not content_type.lower().startswith("multipart/"):
        return request.body
    head = f"MIME-Version: 1.0\r\nContent-Type: {content_type}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + request.body).get_payload()
    assert isinstance(parts, list)
    named = [part for part in parts if part.get_param("name", header="content-disposition") == "data"]  # type: ignore[union-attr]
    (data,) = named
    content = data.get_payload(decode=True)  # type: ignore[union-attr]
    assert isinstance(content, bytes)
    return content


def alipay_notification(request: Request) -> Meaning:
    found = merged(request.body)
    return form(found, {"sign", "sign_type"}, ALIPAY_NOTIFICATION_DECIDES, empty=False), request.query


def unionpay(request: Request) -> Meaning:
    return form(merged(request.body), {"signature"}, UNIONPAY_DECIDES, empty=True), request.query


def hmac(request: Request) -> Meaning:
    names = ("paymesh-key", "paymesh-timestamp", "paymesh-nonce")
    return *(only(request, name) for name in names), request.method, request.target, request.body


def http_signature(request: Request) -> Meaning:
    """Everything that the tests' messages cover; white space around a field is not part of it (RFC 9110, 5.5)."""
    names = ("signature-input", "content-type", "content-digest")
    covered = [only(request, name).strip(" \t") for name in names]
    digest = re.fullmatch(r"sha-256=:([^:]+):", covered[2])
    assert digest is not None
    assert base64.b64decode(digest[1], validate=True) == hashlib.sha256(request.body).digest()
    return request.method, request.scheme, request.authority, request.target, *covered, request.body


def jwt(request: Request) -> Meaning:
    """A token says nothing of the request that it comes with."""
    kind, _, token = only(request, "authorization").partition(" ")
    assert kind.lower() == "bearer"
    return tuple(token.strip(" ").split(".")[:2])


def mtls_by_name(request: Request) -> Meaning:
    assert request.peer is not None
    return (request.peer.principal,)


def mtls_pinned(request: Request) -> Meaning:
    assert request.peer is not None
    pem = re.search("-----BEGIN CERTIFICATE-----(.+?)-----END", unquote(request.peer.certificate), re.DOTALL)
    assert pem is not None
    return (hashlib.sha256(base64.b64decode(pem[1])).hexdigest(),)


# -- reading -----------------------------------------------------------------------------------------------------------


def only(request: Request, name: str, default: str | None = None) -> str:
    """The one value of a header; `default` where it is absent."""
    (value,) = request.headers.get(name, () if default is None else (default,))
    return value


def keyed(kind: str, expected: str, fields: str) -> Mapping[str, str]:
    assert kind == expected
    listed = parse_http_list(fields)
    found = parse_keqv_list(listed)
    assert len(found) == len(listed)
    return found


def merged(*encoded: bytes) -> Mapping[str, bytes]:
    """The parameters of all of these; one that comes twice must say the same, and stand once in each."""
    found: dict[str, bytes] = {}
    for one in encoded:
        here: set[str] = set()
        for name, value in parse_qsl(one.decode("latin-1"), keep_blank_values=True, encoding="latin-1"):
            assert name not in here
            here.add(name)
            content = value.encode("latin-1")
            assert found.setdefault(name, content) == content
    return found


def form(found: Mapping[str, bytes], unsigned: Iterable[str], decides: frozenset[str], *, empty: bool) -> Meaning:
    """The text to sign and, as it does not say where a value ends, each value that decides something."""
    signed = {name: value for name, value in sorted(found.items()) if name not in unsigned and (value or empty)}
    text = b"&".join(name.encode("latin-1") + b"=" + value for name, value in signed.items())
    return text, {name: value for name, value in found.items() if name in decides and value}
