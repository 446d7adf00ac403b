"""Owns remembering what a sample service received, so that the demo and the tests can show what really arrived."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from aiohttp import web

KEPT = 1000
_OWN_PATHS = ("/_sample/", "/healthz")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Received:
    """The last requests, by arrival. Bodies are kept as they came: these are sample services with sample data."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._requests: deque[dict[str, object]] = deque(maxlen=KEPT)

    def install(self, app: web.Application) -> None:
        app.middlewares.append(self._remember)
        app.router.add_get("/_sample/received", self._show)
        app.router.add_get("/healthz", self._healthy)

    @web.middleware
    async def _remember(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith(_OWN_PATHS):
            self._requests.append(
                {
                    "method": request.method,
                    "path": request.raw_path,
                    "headers": {name.lower(): value for name, value in request.headers.items()},
                    "body": (await request.read()).decode("utf-8", "replace"),
                }
            )
        response = await handler(request)
        response.headers["x-sample-version"] = self._version
        return response

    async def _show(self, request: web.Request) -> web.Response:
        wanted = request.query.get("request_id")
        found = [
            entry
            for entry in self._requests
            if wanted is None or dict(entry["headers"]).get("x-request-id") == wanted  # type: ignore[call-overload]
        ]
        return web.json_response(found)

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "version": self._version})
