"""Owns reading a FILE.http: one raw HTTP/1.1 request, as tools and proxies write it down."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from paymesh.payments.request import Request


class NotAnHttpRequest(Exception):  # noqa: N818 - it names the file's fault
    """The file does not hold one HTTP request."""


def read_http_file(file: Path) -> Request:
    """The request in `file`: a request line, headers, an empty line, the body (every byte that follows).

    Line ends may be CRLF or LF. Raises NotAnHttpRequest, OSError.
    """
    content = file.read_bytes()
    crlf, lf = content.find(b"\r\n\r\n"), content.find(b"\n\n")
    if crlf >= 0 and (lf < 0 or crlf < lf):
        head, body = content[:crlf], content[crlf + 4 :]
    else:
        head, body = (content[:lf], content[lf + 2 :]) if lf >= 0 else (content, b"")
    lines = head.decode("latin-1").splitlines()
    parts = lines[0].split(" ") if lines else []
    if len(parts) not in (2, 3):
        raise NotAnHttpRequest(f"{file}: line 1 is no request line such as POST /v1/payments HTTP/1.1")
    headers: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines[1:], start=2):
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise NotAnHttpRequest(f"{file}: line {number} is no header")
        key = name.strip().lower()
        # Envoy removes these from every client's request before anything reads them.
        if not key.startswith("x-pay-"):
            headers[key] = (*headers.get(key, ()), value.strip())
    target, scheme, authority = _resolve(parts[1], headers.get("host", ("",))[0])
    return Request(parts[0], target, headers, body, request_id="offline", scheme=scheme, authority=authority)


def _resolve(target: str, host: str) -> tuple[str, str, str]:
    """Path and query, scheme and authority. A file does not say how it was sent: https, unless its target does."""
    if target.startswith("/"):
        return target, "https", host
    url = urlsplit(target)
    return (url.path or "/") + (f"?{url.query}" if url.query else ""), url.scheme, url.netloc
