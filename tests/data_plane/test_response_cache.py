"""Why `response_cache` is refused: what the cache of the Envoy in use does with two merchants' requests for one path.

If a test here fails, Envoy has learnt something, and decision 0015 can be looked at again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from paymesh.cli.stack.ports import Ports
from paymesh.server.envoy_binary import find_envoy
from tests.data_plane.forwarding_site import HOST, Service

pytestmark = pytest.mark.data_plane
TYPE = "type.googleapis.com/envoy.extensions"
MERCHANT = "x-pay-merchant"


def cached(vary: str | None = None) -> Any:
    """A service whose answers, with the merchant in them, may be kept for a minute."""
    taken: Counter[str] = Counter()

    def answer(request: web.Request) -> web.Response:
        taken[request.path] += 1
        headers = {"cache-control": "max-age=60"} | ({} if vary is None else {"vary": vary})
        return web.Response(text=request.headers[MERCHANT], headers=headers)

    return answer


def config(port: int, service: int, allowed: list[str], *, vary_added: bool) -> dict[str, Any]:
    cache = {
        "@type": f"{TYPE}.filters.http.cache.v3.CacheConfig",
        "typed_config": {"@type": f"{TYPE}.http.cache.simple_http_cache.v3.SimpleHttpCacheConfig"},
        "allowed_vary_headers": [{"exact": name} for name in allowed],
    }
    vary = {"header": {"key": "vary", "value": MERCHANT}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    mutation = {
        "@type": f"{TYPE}.filters.http.header_mutation.v3.HeaderMutation",
        "mutations": {"response_mutations": [{"append": vary}]},
    }
    filters = [{"name": "cache", "typed_config": cache}]
    if vary_added:
        filters.append({"name": "vary", "typed_config": mutation})
    filters.append({"name": "router", "typed_config": {"@type": f"{TYPE}.filters.http.router.v3.Router"}})
    manager = {
        "@type": f"{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "cache",
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "s"}}]}
            ]
        },
        "http_filters": filters,
    }
    listener = {
        "address": address(port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(service)}}]}]
    cluster = {"name": "s", "type": "STATIC", "load_assignment": {"cluster_name": "s", "endpoints": endpoints}}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": HOST, "port_value": port}}


class Caching:
    def __init__(self, port: int, process: subprocess.Popen[bytes], session: aiohttp.ClientSession) -> None:
        self._url, self._process, self._session = f"http://{HOST}:{port}", process, session

    async def ask(self, path: str, merchant: str) -> str:
        async with self._session.get(self._url + path, headers={MERCHANT: merchant}) as answer:
            return await answer.text()

    async def died(self) -> int:
        return await asyncio.to_thread(self._process.wait, 20)


@contextlib.asynccontextmanager
async def caching(folder: Path, answer: Any, allowed: list[str], *, vary_added: bool = False) -> AsyncIterator[Caching]:
    async with Service(behave=answer).running() as service, aiohttp.ClientSession() as session:
        port, file = Ports.random().gateway, folder / "envoy.json"
        file.write_text(json.dumps(config(port, service.port, allowed, vary_added=vary_added)))
        with (folder / "envoy.log").open("wb") as log:
            command = [str(find_envoy()), "-c", str(file), "--disable-hot-restart", "--concurrency", "1"]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            async with asyncio.timeout(20):
                while not await listening(port):
                    assert process.poll() is None, (folder / "envoy.log").read_text()[-2000:]
                    await asyncio.sleep(0.05)
            yield Caching(port, process, session)
        finally:
            process.kill()
            process.wait(10)


async def listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.mark.parametrize("vary_added", [False, True])
async def test_two_merchants_share_an_answer_even_if_vary_is_added_behind_the_cache(
    tmp_path: Path, vary_added: bool
) -> None:
    async with caching(tmp_path, cached(), [MERCHANT], vary_added=vary_added) as envoy:
        assert await envoy.ask("/orders/1", "one") == "one"
        assert await envoy.ask("/orders/1", "two") == "one"


async def test_a_service_that_says_vary_ends_the_gateway(tmp_path: Path) -> None:
    async with caching(tmp_path, cached(MERCHANT), [MERCHANT]) as envoy:
        with pytest.raises(aiohttp.ClientError):
            await envoy.ask("/orders/1", "one")
        assert await envoy.died() != 0


async def test_what_varies_is_not_kept_where_nothing_may_vary(tmp_path: Path) -> None:
    async with caching(tmp_path, cached(MERCHANT), []) as envoy:
        assert [await envoy.ask("/orders/1", merchant) for merchant in ("one", "two", "one")] == ["one", "two", "one"]
