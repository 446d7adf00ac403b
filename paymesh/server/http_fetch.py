"""Owns asking other systems over HTTP: one exchange, bounded in time and size. Refuses to show what was asked.

No redirect is followed (it could lead anywhere, with our secret), no proxy is taken from the environment, no cookie is
kept, and nothing is decompressed: a small answer must not become a large one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

import aiohttp
from yarl import URL

from paymesh.payments.denial import Unavailable
from paymesh.payments.jose.fetch import FetchResponse

MAX_CONNECTIONS = 100
MAX_CONNECTIONS_PER_HOST = 32
_CHUNK_BYTES = 16 * 1024


class _TooLarge(Exception):  # noqa: N818 - it names the answer's fault
    pass


class AiohttpFetch:
    """`HttpFetch` by aiohttp. Belongs to the event loop that first asks; `aclose()` when done.

    `ssl_context`: whom to trust; by default the system's authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` hold).
    """

    def __init__(self, ssl_context: ssl.SSLContext | None = None) -> None:
        self._ssl_context = ssl_context
        self._session: aiohttp.ClientSession | None = None

    async def fetch(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float, max_bytes: int
    ) -> FetchResponse:
        """One exchange. Raises Unavailable, which names the host and the kind of failure."""
        failure: str
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(method, url, headers, body, max_bytes)
        except TimeoutError:
            failure = "no answer in time"
        except _TooLarge:
            failure = f"an answer of more than {max_bytes} bytes, or a compressed one"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = f"no answer ({type(error).__name__})"
        # Raised out here, without the cause: aiohttp's errors hold the whole URL, whose query may be a secret.
        raise Unavailable(f"{_host(url)}: {failure}")

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, max_bytes: int
    ) -> FetchResponse:
        session = self._opened()
        request = session.request(
            method,
            URL(url, encoded=True),
            headers={"accept-encoding": "identity", **headers},
            data=body or None,
            allow_redirects=False,
        )
        async with request as response:
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise _TooLarge
            content = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                content += chunk
                if len(content) > max_bytes:
                    raise _TooLarge
            return FetchResponse(response.status, _joined(response), bytes(content))

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=MAX_CONNECTIONS,
                    limit_per_host=MAX_CONNECTIONS_PER_HOST,
                    ssl=self._ssl_context if self._ssl_context is not None else True,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # the deadline above covers everything
                auto_decompress=False,
                trust_env=False,
                headers={"user-agent": "paymesh"},
            )
        return self._session


def _joined(response: aiohttp.ClientResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in response.headers.items():
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found


def _host(url: str) -> str:
    try:
        return URL(url, encoded=True).host or "unknown host"
    except ValueError:
        return "unknown host"
