"""Owns reading what a policy refers to: key files, secret files, environment variables. Refuses to show any of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from paymesh.payments.policy.documents import FileReference, SecretReference
from paymesh.payments.secrets import Secret

MIN_RSA_BITS = 2048
MAX_REFERENCED_BYTES = 1024 * 1024


class UnusableReference(Exception):  # noqa: N818 - it names the thing, as Unavailable does
    """A reference that cannot be used. The message names the place and never the content."""


class References:
    """Resolves references relative to the file that holds them, and remembers which files were read."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.contents: dict[Path, bytes] = {}
        self.touched: set[Path] = set()

    def secret(self, reference: SecretReference, beside: Path) -> Secret:
        """The secret's bytes; one trailing newline of a file is dropped. Raises UnusableReference."""
        if reference.env is not None:
            value = self._environ.get(reference.env)
            if not value:
                raise UnusableReference(f"environment variable {reference.env} is not set")
            return Secret(value.encode())
        assert reference.file is not None
        content = self._read(beside.parent / reference.file)
        content = content.removesuffix(b"\n").removesuffix(b"\r")
        if not content:
            raise UnusableReference(f"file {reference.file} is empty")
        return Secret(content)

    def public_key(self, source: str | FileReference, beside: Path) -> tuple[RSAPublicKey, str | None]:
        """An RSA public key and, from a certificate, its serial (upper-case hex). Raises UnusableReference."""
        pem = source.encode() if isinstance(source, str) else self._read(beside.parent / source.file)
        serial = None
        try:
            if b"-----BEGIN CERTIFICATE-----" in pem:
                certificate = x509.load_pem_x509_certificate(pem)
                serial = f"{certificate.serial_number:X}"
                key: object = certificate.public_key()
            else:
                key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UnusableReference("is not a PEM public key or certificate") from error
        if not isinstance(key, RSAPublicKey):
            raise UnusableReference("is not an RSA key")
        if key.key_size < MIN_RSA_BITS:
            raise UnusableReference(f"is an RSA key of {key.key_size} bits; at least {MIN_RSA_BITS} are required")
        return key, serial

    def _read(self, path: Path) -> bytes:
        self.touched.add(path)
        if path not in self.contents:
            try:
                with path.open("rb") as stream:
                    content = stream.read(MAX_REFERENCED_BYTES + 1)
            except OSError as error:
                raise UnusableReference(f"file {path} cannot be read: {error.strerror or error}") from error
            if len(content) > MAX_REFERENCED_BYTES:
                raise UnusableReference(f"file {path} is larger than {MAX_REFERENCED_BYTES} bytes")
            self.contents[path] = content
        return self.contents[path]
