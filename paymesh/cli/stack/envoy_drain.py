"""Owns letting an Envoy finish what it has before it is told to stop.

SIGTERM alone cuts requests in flight, and Envoy 1.40 can crash on it while ext_proc streams that it closed gracefully
still linger (seen: a segmentation fault 2 ms after SIGTERM, with access-log lines lost). So: drain, wait, then stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import aiohttp

MAX_SECONDS = 3.0
_LINGER_SECONDS = 0.5
"""After the last request: ext_proc streams end, and the access log is written."""
_ACTIVE = "http.paymesh.downstream_rq_active"


async def drain(admin: str) -> None:
    """Drain the listeners of the Envoy whose admin address is HOST:PORT; returns when idle or after MAX_SECONDS."""
    deadline = time.monotonic() + MAX_SECONDS
    timeout = aiohttp.ClientTimeout(total=1)
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # an Envoy that is gone has nothing to finish
        async with aiohttp.ClientSession(f"http://{admin}", timeout=timeout) as session:
            await session.post("/drain_listeners?graceful&skip_exit")
            while await _active(session) and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            await asyncio.sleep(_LINGER_SECONDS)


async def _active(session: aiohttp.ClientSession) -> int:
    async with session.get(f"/stats?format=json&filter=^{_ACTIVE}$") as response:
        stats = (await response.json(content_type=None))["stats"]
    return sum(int(stat.get("value", 0)) for stat in stats)
