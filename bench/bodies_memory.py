"""Owns one measurement: what large bodies cost ext_proc in memory, many of them at once.

    python -m bench.bodies_memory

A real Envoy with the control plane's configuration, a real `python -m ext_proc`, and 200 JSON bodies of 1 MB at once:
first requests that are sanitised, then answers. Envoy's set_metadata filter stands in for ext_authz. Linux only: the
peak is VmHWM of `/proc`. `bench/README.md` has figures.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from bench.chain import running
from bench.load import TARGET
from bench.processes import HOST, Site, Variant
from paymesh.cli.stack.child import Child

_BODY_BYTES = 1_000_000
_SMALL = b'{"status":"SUCCEEDED"}'
_PLAIN, _MASKED = b'"phone":"13812341234"', b'"phone":"138****1234"'
_TIMEOUT_S = 300
_RULES = """
        - {field: /payer/phone, action: mask, kind: phone}
        - {field: /items/*/note, action: truncate, keep: 8}
"""
_POLICY = """
merchants: [{id: bench, credentials: [{scheme: hmac, key_id: k, secret: {file: hmac.key}}]}]
services: [{name: trade, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: "${BENCH_UPSTREAM}"}]}]}]
channels: [{name: card, service: trade}]
routes:
  - name: payments
    match: {path: %(path)s, methods: [POST]}
    operation: pay
    schemes: [hmac]
    timeout: 120s
    max_body_bytes: 2097152
    max_response_bytes: 2097152
    body: {max_members: 100000}
    fields: {order_no: /order_no, amount: /amount}
    channels: [card]
    sanitize:
      %(direction)s:%(rules)s
"""


def large_body() -> bytes:
    """An order with so many items that it has a megabyte. Only the phone's four digits are to change in it."""
    item = {"sku": "TEA-0001", "quantity": 2, "price": 1999, "note": "no note", "text": "x" * 700}
    count = _BODY_BYTES // len(json.dumps(item, separators=(",", ":")))
    order = {"order_no": "1", "amount": 1, "payer": {"phone": "13812341234"}, "items": [item] * count}
    return json.dumps(order, separators=(",", ":")).encode()


@dataclass
class Upstream:
    """Answers with `answer`; counts requests that are not as they should be."""

    expected: bytes
    answer: bytes
    wrong: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        self.wrong += await request.read() != self.expected
        return web.Response(body=self.answer, content_type="application/json")

    @contextlib.asynccontextmanager
    async def serving(self, address: str) -> AsyncIterator[None]:
        app = web.Application(client_max_size=1 << 23)
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, HOST, int(address.rpartition(":")[2])).start()
        try:
            yield
        finally:
            await runner.cleanup()


def memory_mib(child: Child, what: str) -> float:
    """VmHWM (peak) or VmRSS (now) of a process, MiB."""
    lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


async def _round(address: str, count: int, request: bytes, expected: bytes) -> tuple[float, list[float], list[str]]:
    """Seconds of all, of each, and what went wrong."""
    times: list[float] = []
    failures: list[str] = []

    async def one(session: aiohttp.ClientSession) -> None:
        began = time.perf_counter()
        headers = {"content-type": "application/json"}
        async with session.post(f"http://{address}{TARGET}", data=request, headers=headers) as answer:
            body = await answer.read()
            if answer.status != 200 or body != expected:
                failures.append(f"{answer.status} {answer.headers.get('x-pay-reason', 'not what was expected')}")
        times.append(time.perf_counter() - began)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(_TIMEOUT_S)) as session:
        began = time.perf_counter()
        await asyncio.gather(*(one(session) for _ in range(count)))
        return time.perf_counter() - began, times, failures


async def _measure(direction: str, count: int, rounds: int) -> bool:
    body = large_body()
    masked = body.replace(_PLAIN, _MASKED)
    asked = direction == "request"
    request, upstream = (body, Upstream(masked, _SMALL)) if asked else (b"{}", Upstream(b"{}", body))
    expected = _SMALL if asked else masked
    text = _POLICY % {"path": TARGET, "direction": direction, "rules": _RULES}
    clean = True
    with tempfile.TemporaryDirectory() as name:
        site = Site(Path(name), text)
        variant = Variant("bodies", ext_authz=False, ext_proc=True)
        async with (
            upstream.serving(site.address("upstream")),
            running(site.ext_proc(), Path(name), site.environ) as ext_proc,
            running(site.gateway(variant), Path(name), site.environ),
        ):
            _, times, failures = await _round(site.address("gateway"), 1, request, expected)
            print(f"{direction}: one alone {times[0] * 1000:.0f} ms; then {count} at once, {len(body)} bytes each")
            for number in range(1, rounds + 1):
                before = memory_mib(ext_proc, "VmHWM")
                took, times, failed = await _round(site.address("gateway"), count, request, expected)
                after, now = memory_mib(ext_proc, "VmHWM"), memory_mib(ext_proc, "VmRSS")
                failures += failed
                print(
                    f"  round {number}: {took * 1000:.0f} ms in all, median {statistics.median(times) * 1000:.0f} ms, "
                    f"longest {max(times) * 1000:.0f} ms; ext_proc's peak {before:.0f} -> {after:.0f} MiB, "
                    f"afterwards {now:.0f} MiB; failures {dict(collections.Counter(failed)) or 'none'}"
                )
            clean = not failures and not upstream.wrong
            if upstream.wrong:
                print(f"  {upstream.wrong} requests reached the service otherwise than expected")
    return clean


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1: a body was lost, refused or not as expected."""
    parser = argparse.ArgumentParser(prog="python -m bench.bodies_memory", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bodies", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(arguments)
    print(f"{os.cpu_count()} cores")
    results = [asyncio.run(_measure(direction, args.bodies, args.rounds)) for direction in ("request", "response")]
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
