"""Owns a service's TLS: server certificate, and client certificates where a CA for them is given (mTLS)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """PEM files. With `client_ca` every client must show a certificate that it signed."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


def server_credentials(options: TlsOptions) -> grpc.ServerCredentials:
    """Credentials for grpc. Raises OSError if a file cannot be read."""
    return grpc.ssl_server_credentials(
        [(options.key.read_bytes(), options.certificate.read_bytes())],
        root_certificates=None if options.client_ca is None else options.client_ca.read_bytes(),
        require_client_auth=options.client_ca is not None,
    )
