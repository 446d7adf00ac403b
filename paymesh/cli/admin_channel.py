"""Owns reaching an admin API from a terminal: where it is, how it is trusted, and who calls."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import grpc

TOKEN_FILE = "PAYMESH_ADMIN_TOKEN_FILE"  # noqa: S105 - a name
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class UnusableFile(Exception):  # noqa: N818 - it names what was found
    """A file of --admin-... cannot be read; the message names it."""


def add_admin_arguments(parser: argparse.ArgumentParser, default: str, whose: str) -> None:
    """`--admin` and what a protected admin API asks for."""
    add = parser.add_argument
    add("--admin", default=default, metavar="HOST:PORT", help=f"{whose}; default {default}")
    token = os.environ.get(TOKEN_FILE)
    add(
        "--admin-token-file",
        type=Path,
        default=None if token is None else Path(token),
        metavar="FILE",
        help=f"holds the token to show (default: what ${TOKEN_FILE} names)",
    )
    add("--admin-ca", type=Path, metavar="FILE", help="PEM: TLS, with a certificate that this issued")
    add("--admin-cert", type=Path, metavar="FILE", help="PEM: the certificate to show (mTLS)")
    add("--admin-key", type=Path, metavar="FILE", help="PEM: its private key")


def admin_channel(args: argparse.Namespace) -> grpc.aio.Channel:
    """The channel that the arguments describe. Raises UnusableFile."""
    interceptors = [_Bearer(_read(args.admin_token_file).decode("utf-8").strip())] if args.admin_token_file else []
    if args.admin_ca is None:
        return grpc.aio.insecure_channel(args.admin, options=_OPTIONS, interceptors=interceptors)
    key, certificate = (None if file is None else _read(file) for file in (args.admin_key, args.admin_cert))
    credentials = grpc.ssl_channel_credentials(_read(args.admin_ca), key, certificate)
    return grpc.aio.secure_channel(args.admin, credentials, options=_OPTIONS, interceptors=interceptors)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UnusableFile(f"{file}: {error.strerror or type(error).__name__}") from error


class _Bearer(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def __init__(self, token: str) -> None:
        self._header = ("authorization", f"Bearer {token}")

    async def intercept_unary_unary(self, continuation, details, request):  # type: ignore[no-untyped-def]
        metadata: Sequence[tuple[str, str]] = [*(details.metadata or ()), self._header]
        return await continuation(details._replace(metadata=grpc.aio.Metadata(*metadata)), request)
