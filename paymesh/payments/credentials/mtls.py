"""Owns callers known by the client certificate that Envoy verified in the handshake: by SPIFFE ID, or pinned.

Reads what Envoy itself says of the connection (`source.principal`, `source.certificate`), never the XFCC header, whose
quoting two readers can take differently (protocols.md section 1). There is no nonce: TLS lets nobody replay.
"""

from __future__ import annotations

import functools
import hashlib
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from paymesh.payments.credentials.claim import Asked, Authenticated, Claim, caller_of, invalid
from paymesh.payments.denial import Denial
from paymesh.payments.policy.callers import Algorithm, CredentialKey, KeyKind, KeyRef, Scheme
from paymesh.payments.policy.compiled import Route
from paymesh.payments.request import Request

_MAX_CERTIFICATE_CHARS = 32 * 1024
_REMEMBERED = 256


class Mtls:
    scheme = Scheme.MTLS

    def recognises(self, request: Request) -> bool:
        return request.peer is not None

    def read(self, request: Request, route: Route) -> Claim | Denial:  # noqa: ARG002
        peer = request.peer
        assert peer is not None
        fingerprint = certificate_sha256(peer.certificate)
        names = [f"sha256:{fingerprint}"] if fingerprint is not None else []
        if peer.principal.startswith("spiffe://"):
            names.insert(0, peer.principal)
        if not names:
            return invalid("the client certificate has no SPIFFE ID and is not readable")
        first, *others = (KeyRef(KeyKind.MTLS, name) for name in names)
        return Claim(
            scheme=self.scheme,
            key=first,
            other_names=tuple(others),
            algorithm=Algorithm.TLS,
            signature=b"",
            signed=b"",
        )

    async def accept(self, claim: Claim, key: CredentialKey, asked: Asked) -> Authenticated | Denial:  # noqa: ARG002
        return caller_of(claim, key)


@functools.lru_cache(maxsize=_REMEMBERED)
def certificate_sha256(url_encoded_pem: str) -> str | None:
    """The fingerprint (lower-case hex, of the DER) of a certificate as Envoy gives it; None if it is none."""
    if not 0 < len(url_encoded_pem) <= _MAX_CERTIFICATE_CHARS:
        return None
    try:
        certificate = x509.load_pem_x509_certificate(unquote(url_encoded_pem).encode())
    except (ValueError, x509.InvalidVersion):
        return None
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
