"""Owns what the control plane is told by its flags, beside the policy: where the parts of this gateway are."""

from __future__ import annotations

from dataclasses import dataclass

from paymesh.payments.policy.upstreams import UpstreamTls


@dataclass(frozen=True, slots=True)
class GatewayTls:
    """Files that Envoy reads itself (PEM), so that no private key passes through the control plane.

    With `client_ca`, a client may show a certificate; one that its authorities did not issue ends the handshake.
    """

    certificate: str
    private_key: str
    client_ca: str | None = None


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Addresses are (IP, port). `ext_authz`, `ext_proc`: one a worker. `access_log` is a file, such as /dev/stdout."""

    gateway: tuple[str, int]
    ext_authz: tuple[tuple[str, int], ...]
    ext_proc: tuple[tuple[str, int], ...]
    access_log: str
    tls: GatewayTls | None = None
    """None: merchants come in plain text, for example behind something that ended their TLS."""
    deciding_tls: UpstreamTls | None = None
    """To ext_authz and ext_proc. None: in plain text, for one machine or a mesh that encrypts."""
    health_events: str | None = None
    """A file on Envoy's machine that gets a line of JSON whenever a health check's result changes."""
