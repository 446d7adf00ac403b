"""Owns failing on request: `POST /_sample/faults` tells a simulator how, and for which share of what it is asked.

`{"kind": "error", "share": 0.3}`. Kinds: `none`; `error` (500, nothing was done); `lost` (done, then 500); `page` (502
and an HTML page, as a proxy answers); `slow` (done, then `seconds` late); `tampered` (done, and the answer changed
on its way). Which request fails is counted, not drawn: of ten with a share of 0.3 three do, in every run the same ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

OWN_PATHS = ("/_sample/", "/healthz")
_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_KINDS = ("none", "error", "lost", "page", "slow", "tampered")
_UNITS = 10_000
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Faults:
    """What goes wrong now, and how often."""

    def __init__(self) -> None:
        self._kind = "none"
        self._share = _UNITS
        self._seconds = 30.0
        self._asked = 0

    def install(self, app: web.Application) -> None:
        app.middlewares.append(self._fail)
        app.router.add_post("/_sample/faults", self._set)

    async def _set(self, request: web.Request) -> web.Response:
        document = await request.json()
        kind, share = document.get("kind"), document.get("share", 1)
        if kind not in _KINDS or not 0 <= share <= 1:
            return web.json_response({"message": f"`kind` is one of {', '.join(_KINDS)}; `share` 0 to 1"}, status=400)
        self._kind, self._share, self._asked = kind, round(share * _UNITS), 0
        self._seconds = float(document.get("seconds", 30.0))
        return web.json_response({"kind": kind, "share": share})

    @web.middleware
    async def _fail(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(OWN_PATHS) or not self._is_next():
            return await handler(request)
        if self._kind == "error":
            return web.Response(status=500)
        if self._kind == "page":
            return web.Response(status=502, text=_PAGE, content_type="text/html")
        response = await handler(request)
        if self._kind == "slow":
            await asyncio.sleep(self._seconds)
        if self._kind == "lost":
            return web.Response(status=500)
        return _tampered(response) if self._kind == "tampered" else response

    def _is_next(self) -> bool:
        self._asked += 1
        before, now = ((self._asked - back) * self._share // _UNITS for back in (1, 0))
        return self._kind != "none" and now > before


def _tampered(response: web.StreamResponse) -> web.StreamResponse:
    """The same answer with one digit or letter of it another one; what signs it stays."""
    assert isinstance(response, web.Response)
    body = response.body
    text = body.decode() if isinstance(body, bytes) else ""
    for old, new in (("SUCCESS", "SUCCEST"), ("qr_code", "qr_codf"), ("code", "codf"), ("respCode=00", "respCode=A6")):
        if old in text:
            text = text.replace(old, new, 1)
            break
    else:
        text += " "
    return web.Response(status=response.status, headers=_without_length(response), body=text.encode())


def _without_length(response: web.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.lower() != "content-length"}
