"""Owns what a check sees of an HTTP request: plain values, nothing decoded that a signature covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Peer:
    """The client certificate that Envoy verified in the TLS handshake."""

    principal: str
    """The first URI SAN (a SPIFFE ID), or what Envoy gives where there is none."""
    certificate: str = field(default="", repr=False)
    """PEM, URL-encoded as Envoy gives it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as Envoy holds it after normalising the path.

    `target` is path and query as sent upstream. Header names are lower case; every value of a repeated header is kept.
    """

    method: str
    target: str
    headers: Mapping[str, tuple[str, ...]] = field(repr=False)
    body: bytes = field(repr=False)
    request_id: str
    route_name: str | None = None
    """From the control plane; None where nobody could say it (Istio's provider)."""
    client_address: str = ""
    scheme: str = ""
    """http or https; empty if unknown."""
    authority: str = ""
    """Host and port as the client named them; empty if unknown."""
    peer: Peer | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)
    """What the control plane says of the route, by the names of `internal_names`; empty where nobody says it."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def header(self, name: str) -> str | None:
        """The value of a header that must not repeat; None if absent. Raises RepeatedHeader."""
        values = self.headers.get(name, ())
        if len(values) > 1:
            raise RepeatedHeader(name)
        return values[0] if values else None


class RepeatedHeader(Exception):  # noqa: N818 - it names what was found
    """A header that decides came twice: two readers could take different ones."""
