"""Owns reading what a policy refers to: key files, secret files, environment variables. Refuses to show any of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key, load_pem_public_key

from paymesh.payments.policy.values import FileReference, SecretReference
from paymesh.payments.secrets import Secret

MIN_RSA_BITS = 2048
MAX_REFERENCED_BYTES = 1024 * 1024


class UnusableReference(Exception):  # noqa: N818 - it names the thing, as Unavailable does
    """A reference that cannot be used. The message names the place and never the content."""


@dataclass(frozen=True, slots=True)
class PublicKeyFound:
    """A parsed public key of some type, and the certificate that it came from."""

    key: object
    certificate: x509.Certificate | None

    @property
    def rsa(self) -> RSAPublicKey:
        assert isinstance(self.key, RSAPublicKey)  # `rsa_key` gives nothing else
        return self.key


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

    def public_key(self, source: str | FileReference, beside: Path) -> PublicKeyFound:
        """A public key, or the one of a certificate. Raises UnusableReference."""
        text = source.encode() if isinstance(source, str) else self._read(beside.parent / source.file)
        certificate = None
        try:
            if b"-----BEGIN CERTIFICATE-----" in text:
                certificate = x509.load_pem_x509_certificate(text)
                key: object = certificate.public_key()
            elif b"-----BEGIN" in text:
                key = load_pem_public_key(text)
            else:
                # As Alipay's tools write it: the base64 of the DER, without the PEM's lines around it.
                key = load_der_public_key(base64.b64decode(b"".join(text.split()), validate=True))
        except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
            raise UnusableReference("is not a public key or certificate (PEM, or base64 of the DER)") from error
        if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
            raise UnusableReference(f"is an RSA key of {key.key_size} bits; at least {MIN_RSA_BITS} are required")
        return PublicKeyFound(key, certificate)

    def rsa_key(self, source: str | FileReference, beside: Path) -> PublicKeyFound:
        """`public_key`, of at least 2048 bits RSA. Raises UnusableReference."""
        found = self.public_key(source, beside)
        if not isinstance(found.key, RSAPublicKey):
            raise UnusableReference("is not an RSA key")
        return found

    def certificates(self, source: str | FileReference, beside: Path) -> tuple[x509.Certificate, ...]:
        """Every certificate of a PEM text, at least one. Raises UnusableReference."""
        text = source.encode() if isinstance(source, str) else self._read(beside.parent / source.file)
        try:
            return tuple(x509.load_pem_x509_certificates(text))
        except (ValueError, x509.InvalidVersion) as error:
            raise UnusableReference("holds no PEM certificates") from error

    def content(self, reference: FileReference, beside: Path) -> bytes:
        """A file's bytes. Raises UnusableReference."""
        return self._read(beside.parent / reference.file)

    def rsa_private_key(self, reference: SecretReference, beside: Path) -> RSAPrivateKey:
        """An RSA private key, PEM without password. Raises UnusableReference."""
        try:
            key = load_pem_private_key(self.secret(reference, beside).reveal(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise UnusableReference("is not a PEM private key without password") from error
        if not isinstance(key, RSAPrivateKey):
            raise UnusableReference("is not an RSA private key")
        if key.key_size < MIN_RSA_BITS:
            raise UnusableReference(f"is an RSA key of {key.key_size} bits; at least {MIN_RSA_BITS} are required")
        return key

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
