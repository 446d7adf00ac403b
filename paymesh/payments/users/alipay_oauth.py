"""Owns exchanging Alipay's authorization code for a user.

Source: opendocs.alipay.com/apis/api_9/alipay.system.oauth.token.
The request is signed as every `gateway.do` request; the answer is believed only when Alipay's signature over the raw
text of its object verifies (protocols.md section 1). An answer without it is an outage, whatever it says.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from urllib.parse import urlencode

from paymesh.payments.bodies.json_body import JsonDocument
from paymesh.payments.bodies.json_edit import find_spans
from paymesh.payments.credentials.claim import decode_base64
from paymesh.payments.denial import Denial, Unavailable
from paymesh.payments.jose.fetch import HttpFetch
from paymesh.payments.users.answers import MAX_ANSWER_BYTES, read_document
from paymesh.payments.users.providers import AlipayOauthProvider
from paymesh.payments.users.user import User, identified, not_valid

_METHOD = "alipay.system.oauth.token"
_ANSWERS = ("alipay_system_oauth_token_response", "error_response")
_CHINA = datetime.timezone(datetime.timedelta(hours=8))
_SUCCESS = "10000"
_CODE_REFUSED = frozenset({"isv.code-invalid"})
"""Wrong, used or expired. Every other error is the gateway's own setting, or Alipay's trouble."""


async def exchange_alipay_code(provider: AlipayOauthProvider, code: str, fetch: HttpFetch, now_s: int) -> User | Denial:
    """Whose code it is. Alipay takes a code once. Raises Unavailable."""
    response = await fetch.fetch(
        "POST",
        provider.url,
        {"accept": "application/json", "content-type": "application/x-www-form-urlencoded;charset=utf-8"},
        urlencode(_signed_parameters(provider, code, now_s)).encode(),
        provider.timeout_s,
        MAX_ANSWER_BYTES,
    )
    answer = _verified(provider, read_document(response))
    if "sub_code" in answer or answer.get("code", _SUCCESS) != _SUCCESS:
        sub_code = answer.get("sub_code")
        if isinstance(sub_code, str) and sub_code in _CODE_REFUSED:
            return not_valid("Alipay does not accept the code")
        raise Unavailable("Alipay answered with an error that says nothing of the code")
    # Newer applications get an open_id, which is the application's own name for the person, and no user_id.
    found = answer.get("user_id") or answer.get("open_id")
    if not isinstance(found, str):
        raise Unavailable("Alipay's answer has neither user_id nor open_id")
    return identified(User(found, provider.name, now_s + provider.cache_s))


def _signed_parameters(provider: AlipayOauthProvider, code: str, now_s: int) -> Mapping[str, str]:
    parameters = {
        "app_id": provider.app_id,
        "charset": "utf-8",
        "code": code,
        "format": "JSON",
        "grant_type": "authorization_code",
        "method": _METHOD,
        "sign_type": "RSA2",
        "timestamp": datetime.datetime.fromtimestamp(now_s, _CHINA).strftime("%Y-%m-%d %H:%M:%S"),
        "version": "1.0",
    }
    text = "&".join(f"{name}={parameters[name]}" for name in sorted(parameters))
    return {**parameters, "sign": provider.signer.sign(text.encode())}


def _verified(provider: AlipayOauthProvider, document: JsonDocument) -> Mapping[str, object]:
    """The answer's object, once the signature over its raw text verified. Raises Unavailable."""
    members = document.value
    assert isinstance(members, dict)  # object_only
    names = [name for name in _ANSWERS if name in members]
    sign = members.get("sign")
    signature = decode_base64(sign) if isinstance(sign, str) else None
    if len(names) != 1 or signature is None:
        raise Unavailable("Alipay's answer is not signed, or has not one object")
    span = find_spans(document, ((names[0],),))[(names[0],)]
    signed = document.text[span.value_start : span.value_end].encode()
    if not provider.alipay_key.verifies(signature, signed):
        raise Unavailable("the signature of Alipay's answer does not verify")
    answer = members[names[0]]
    if not isinstance(answer, dict):
        raise Unavailable("Alipay's answer is no object")
    return answer
