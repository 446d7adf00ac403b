"""Owns how a service's TLS files are read. Refuses a certificate without its key, and files that do not fit."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from paymesh.server.startup import StartupError


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """PEM files. With `client_ca` a client must show a certificate that this authority signed (mTLS)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


def tls_options(certificate: Path | None, key: Path | None, client_ca: Path | None) -> TlsOptions | None:
    """The options of `--tls-cert`, `--tls-key`, `--tls-client-ca`. StartupError if one lacks the others."""
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise StartupError("TLS needs both --tls-cert and --tls-key")
    return TlsOptions(certificate, key, client_ca)


def server_credentials(tls: TlsOptions) -> grpc.ServerCredentials:
    """Credentials for a gRPC port. StartupError names the file that cannot be used.

    gRPC itself takes any bytes and fails at the first handshake, so OpenSSL reads the files first.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The empty password: an encrypted key is an error here, never a prompt.
        context.load_cert_chain(tls.certificate, tls.key, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise StartupError(f"TLS: {tls.certificate} with {tls.key}: {_why(error)}") from error
    authority = None
    if tls.client_ca is not None:
        try:
            context.load_verify_locations(tls.client_ca)
            authority = tls.client_ca.read_bytes()
        except (OSError, ValueError) as error:
            raise StartupError(f"TLS: {tls.client_ca}: {_why(error)}") from error
    pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
