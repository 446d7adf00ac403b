"""Owns exchanging WeChat's login code for an openid, of web pages and apps or of mini programs.

Source: developers.weixin.qq.com, "web page authorization" and "code2Session". The application's secret travels in the
query, so the URL is shown nowhere. WeChat's answers are not signed: TLS alone says that they are WeChat's.
"""

from __future__ import annotations

from urllib.parse import urlencode

from paymesh.payments.denial import Denial, Unavailable
from paymesh.payments.jose.fetch import HttpFetch
from paymesh.payments.users.answers import MAX_ANSWER_BYTES, read_object
from paymesh.payments.users.providers import WechatEndpoint, WechatOauthProvider
from paymesh.payments.users.user import User, identified, not_valid

_PATHS = {WechatEndpoint.OAUTH2: "/sns/oauth2/access_token", WechatEndpoint.MINI_PROGRAM: "/sns/jscode2session"}
_CODE_PARAMETERS = {WechatEndpoint.OAUTH2: "code", WechatEndpoint.MINI_PROGRAM: "js_code"}
_CODE_REFUSED = frozenset({40029, 40163, 40226, 41008, 42003})
"""Invalid, used, blocked for risk, missing, expired. Others (-1 busy, 45011 too often, 40125 secret) are outages."""


async def exchange_wechat_code(provider: WechatOauthProvider, code: str, fetch: HttpFetch, now_s: int) -> User | Denial:
    """Whose code it is. WeChat takes a code once. Raises Unavailable."""
    query = urlencode(
        {
            "appid": provider.app_id,
            "secret": provider.app_secret.reveal().decode(),
            _CODE_PARAMETERS[provider.endpoint]: code,
            "grant_type": "authorization_code",
        }
    )
    url = f"{provider.url.removesuffix('/')}{_PATHS[provider.endpoint]}?{query}"
    response = await fetch.fetch("GET", url, {"accept": "application/json"}, b"", provider.timeout_s, MAX_ANSWER_BYTES)
    answer = read_object(response)
    error = answer.get("errcode", 0)
    if error != 0:
        if isinstance(error, int) and error in _CODE_REFUSED:
            return not_valid("WeChat does not accept the code")
        raise Unavailable("WeChat answered with an error that says nothing of the code")
    openid = answer.get("openid")
    if not isinstance(openid, str):
        raise Unavailable("WeChat's answer has no openid")
    scope = answer.get("scope")
    scopes = frozenset(scope.split(",")) if isinstance(scope, str) else frozenset[str]()
    return identified(User(openid, provider.name, now_s + provider.cache_s, scopes))
