"""Owns what the domain needs of HTTP: one bounded exchange. The transport is `paymesh/server/http_fetch.py`."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from paymesh.payments.denial import Unavailable

MAX_URL_CHARS = 2048


@dataclass(frozen=True, slots=True)
class FetchResponse:
    """An answer, whatever its status. Header names are lower case; of repeated ones the values are joined by commas."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class HttpFetch(Protocol):
    """Follows no redirect, takes no proxy from the environment, keeps no cookie."""

    async def fetch(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float, max_bytes: int
    ) -> FetchResponse:
        """One exchange within `timeout_s`, everything included. Raises Unavailable: no answer, or one too large.

        The exception never names the URL's query, a header or a body: any of them may be a secret.
        """
        ...


class Offline:
    """`HttpFetch` where nobody may be asked: explaining a request from a file must not show its tokens to others."""

    async def fetch(self, *_: object) -> FetchResponse:
        raise Unavailable("nothing is asked over the network here")


def url_problem(url: str) -> str | None:
    """Why a URL may not be asked: https only, http to this machine alone, no user name, no fragment."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    if not host or port == 0 or len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url:
        return "is no URL"
    if parts.username is not None or parts.password is not None or parts.fragment or "#" in url:
        return "has a user name, a password or a fragment"
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return None
    return "is not https:// (http:// only to this machine)"


def shown(url: str) -> str:
    """The URL without its query, for logs and errors."""
    return url.partition("?")[0]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
