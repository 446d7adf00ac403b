"""Owns how the WeChat Pay simulator tells of a paid order, on request: `POST /_sample/notify`.

The request is JSON: `order` (what the provider notifies of: out_trade_no, mchid, amount; the rest is filled in), and
`url`, where the signed and encrypted notification is sent. The answer tells the status, and the exact headers and body,
so that they can be sent again or forged. Without `url` nothing is sent.
"""

from __future__ import annotations

import secrets

import aiohttp
from aiohttp import web

from paymesh.cli.demo.signing import WechatPlatform

TIMEOUT_S = 5.0
"""WeChat Pay waits five seconds for an acknowledgement."""


class Notifying:
    """The handler of `POST /_sample/notify`."""

    def __init__(self, platform: WechatPlatform) -> None:
        self._platform = platform

    async def handle(self, request: web.Request) -> web.Response:
        """400 if there is no order; 502 if the receiver does not answer."""
        document = await request.json()
        order = document.get("order") if isinstance(document, dict) else None
        if not isinstance(order, dict) or "out_trade_no" not in order:
            return web.json_response({"message": "`order` must be an object with `out_trade_no`"}, status=400)
        headers, body = self._platform.notification({**_PAID, "transaction_id": _transaction(), **order})
        answer: dict[str, object] = {"headers": headers, "body": body.decode()}
        if "url" in document:
            try:
                answer["status"] = await _send(str(document["url"]), headers, body)
            except (aiohttp.ClientError, TimeoutError) as error:
                return web.json_response({"message": f"{type(error).__name__}: {error}", **answer}, status=502)
        return web.json_response(answer)


_PAID = {
    "appid": "wx8888888888888888",
    "trade_type": "NATIVE",
    "trade_state": "SUCCESS",
    "trade_state_desc": "支付成功",
    "bank_type": "OTHERS",
}


def _transaction() -> str:
    return f"42000{secrets.randbelow(10**23):023}"


async def _send(url: str, headers: dict[str, str], body: bytes) -> int:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(url, data=body, headers=headers) as answer,
    ):
        return answer.status
