"""Owns letting an Envoy finish what it has before it is told to stop.

SIGTERM alone cuts requests in flight, and Envoy 1.40 can crash on it while ext_proc streams that it closed gracefully
still linger (seen: a segmentation fault 2 ms after SIGTERM, with access-log lines lost). So: drain, wait, then stop.
"""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp

MAX_SECONDS = 2.5
"""For requests in flight. With it the whole stack stops within 10 s."""
_LINGER_SECONDS = 0.5
"""After the last request: ext_proc streams end, and the access log is written."""
_POLL_SECONDS = 0.05
_ACTIVE = "http.paymesh.downstream_rq_active"


async def drain(admin: str) -> None:
    """Empty the Envoy whose admin address is HOST:PORT; returns when it is idle, or after MAX_SECONDS."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # an Envoy that is gone has nothing to finish
        async with asyncio.timeout(MAX_SECONDS), aiohttp.ClientSession(f"http://{admin}") as session:
            # First: every answer from now on closes its connection. Second: new connections end now, and not at the
            # end of --drain-time-s.
            for path in ("/drain_listeners?graceful&skip_exit", "/drain_listeners"):
                async with session.post(path):
                    pass
            while await _active(session) > 0:  # noqa: ASYNC110 - Envoy tells nobody, it must be asked
                await asyncio.sleep(_POLL_SECONDS)
        await asyncio.sleep(_LINGER_SECONDS)


async def _active(session: aiohttp.ClientSession) -> int:
    async with session.get(f"/stats?format=json&filter=^{_ACTIVE}$") as response:
        stats = (await response.json(content_type=None))["stats"]
    return sum(int(stat.get("value", 0)) for stat in stats)
