"""Owns trusting a certificate that comes with a message: its chain, its dates and its name (UnionPay `signPubKeyCert`).

Verified once and remembered by digest, so that a request costs no parsing. Refuses what no configured root signed.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import NameOID

MIN_RSA_BITS = 2048
_REMEMBERED = 64
_MAX_PEM_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """The key of a verified certificate, with its serial (decimal) and the dates of the whole chain (Unix seconds)."""

    key: RSAPublicKey
    serial: str
    valid_from_s: int
    valid_until_s: int


@dataclass(frozen=True, slots=True)
class CertificateTrust:
    """`authorities`: roots and intermediates, every one of which may sign. `common_name`: what the CN must be."""

    authorities: tuple[x509.Certificate, ...]
    common_name: re.Pattern[str]
    _seen: OrderedDict[bytes, TrustedKey | None] = field(default_factory=OrderedDict, repr=False, compare=False)

    def key_of(self, pem: bytes) -> TrustedKey | None:
        """The certificate's key if its chain ends at an authority and its name is the expected one; else None."""
        digest = hashlib.sha256(pem).digest()
        if digest in self._seen:
            self._seen.move_to_end(digest)
            return self._seen[digest]
        found = self._verify(pem)
        self._seen[digest] = found
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return found

    def _verify(self, pem: bytes) -> TrustedKey | None:
        if len(pem) > _MAX_PEM_BYTES:
            return None
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            key = certificate.public_key()
        except Exception:
            return None
        if not isinstance(key, RSAPublicKey) or key.key_size < MIN_RSA_BITS or len(names) != 1:
            return None
        if not self.common_name.fullmatch(str(names[0].value)):
            return None
        chain = self._chain(certificate)
        if chain is None:
            return None
        return TrustedKey(
            key,
            str(certificate.serial_number),
            max(_seconds(link.not_valid_before_utc) for link in chain),
            min(_seconds(link.not_valid_after_utc) for link in chain),
        )

    def _chain(self, leaf: x509.Certificate) -> Sequence[x509.Certificate] | None:
        chain = [leaf]
        for _ in range(len(self.authorities) + 1):
            issuer = next((ca for ca in self.authorities if _signed_by(chain[-1], ca)), None)
            if issuer is None:
                return None
            chain.append(issuer)
            # A self-signed authority is an end; so is an intermediate that the operator named without its root.
            if issuer.issuer == issuer.subject or not any(_signed_by(issuer, ca) for ca in self.authorities):
                return chain
        return None


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _seconds(moment: datetime.datetime) -> int:
    return int(moment.timestamp())
