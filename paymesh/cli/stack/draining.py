"""Owns emptying an Envoy before it is stopped. SIGTERM alone would cut the requests in flight."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp

_POLL_S = 0.05


async def drain_envoy(admin: str, timeout_s: float) -> None:
    """Take no new connections, let those in flight end: at most `timeout_s` seconds. A dead Envoy is empty."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(timeout_s), aiohttp.ClientSession(f"http://{admin}") as session:
            # First: every answer from now on closes its connection. Second: no new connections, at once and not at the
            # end of --drain-time-s.
            for path in ("/drain_listeners?graceful", "/drain_listeners"):
                async with session.post(path):
                    pass
            while await _active_requests(session) > 0:  # noqa: ASYNC110 - Envoy tells nobody, it must be asked
                await asyncio.sleep(_POLL_S)


async def _active_requests(session: aiohttp.ClientSession) -> int:
    # `http.admin.` counts this very question.
    async with session.get("/stats?filter=downstream_rq_active") as answer:
        lines = (await answer.text()).splitlines()
    return sum(int(line.rpartition(":")[2]) for line in lines if ":" in line and not line.startswith("http.admin."))
