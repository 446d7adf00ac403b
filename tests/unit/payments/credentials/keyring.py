"""Throw-away keys and certificates with dates of their own, whatever the clock says, and the policy that knows them."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from paymesh.payments.credentials.authenticate import authenticate
from paymesh.payments.credentials.claim import Asked, Authenticated
from paymesh.payments.credentials.directory import PolicyKeys
from paymesh.payments.credentials.schemes import SCHEMES
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.request import RepeatedHeader, Request

NOW_S = 1_800_000_000
"""2027-01-15. Every certificate is valid from a year before until a year after, unless it says otherwise."""
YEAR_S = 365 * 86_400
UNIONPAY_NAME = "041@Z12@00040000:UNIONPAY"


@dataclass(frozen=True)
class Issued:
    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def as_envoy_gives_it(self) -> str:
        return quote(self.pem, safe="")

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.certificate.public_bytes(Encoding.DER)).hexdigest()


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def named(*common_names: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CN"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "paymesh tests"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "throw-away"),
            *(x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names),
        ]
    )


def issue(
    name: str | x509.Name,
    key: rsa.RSAPrivateKey,
    issuer: Issued | None = None,
    *,
    from_s: int = NOW_S - YEAR_S,
    until_s: int = NOW_S + YEAR_S,
    serial: int | None = None,
) -> Issued:
    """A certificate for `key`; without an issuer it signs itself. Unix seconds, inclusive."""
    subject = named(name) if isinstance(name, str) else name
    return Issued(
        key,
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(datetime.datetime.fromtimestamp(from_s, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(until_s, datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(key if issuer is None else issuer.key, SHA256()),
    )


def public_pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@dataclass(frozen=True)
class Party:
    """Everything that one merchant signs with."""

    certified: Issued
    edwards: ed25519.Ed25519PrivateKey
    secret: bytes

    @property
    def rsa(self) -> rsa.RSAPrivateKey:
        return self.certified.key


@dataclass(frozen=True)
class Keyring:
    """`other` is a merchant as well; `stranger` is nobody."""

    merchant: Party
    other: Party
    stranger: Party
    authority: Issued
    provider: Issued
    """UnionPay, and its certificate that comes with its notifications."""
    platform: rsa.RSAPrivateKey
    """WeChat Pay's, Alipay's and the token issuer's key."""
    apiv3_key: bytes
    policy: Policy

    async def verify(self, route: str, sent: Request, now_s: int = NOW_S) -> Authenticated | Denial:
        """What a request's first step says, without the route's other steps."""
        found = self.policy.routes_by_name[route]
        scheme = SCHEMES[found.schemes[0]]
        if not scheme.recognises(sent):
            return Denial(Reason.CREDENTIAL_MISSING, "not recognised")
        return await authenticate(scheme, Asked(sent, found, self.policy, PolicyKeys(), now_s))

    def signed(self, route: str, sent: Request) -> bytes | Denial:
        """The string to sign."""
        found = self.policy.routes_by_name[route]
        try:
            claim = SCHEMES[found.schemes[0]].read(sent, found)
        except RepeatedHeader:
            return Denial(Reason.CREDENTIAL_INVALID, "repeated")
        return claim if isinstance(claim, Denial) else claim.string_to_sign


def make_keyring(folder: Path) -> Keyring:
    """New keys, and the policy beside this module loaded with them."""
    authority = issue("paymesh tests: authority of UnionPay", new_key())
    merchant, other, stranger = (
        Party(issue(f"041@Z2026@{name}", new_key(), authority), ed25519.Ed25519PrivateKey.generate(), secret)
        for name, secret in (("bookshop", b"a" * 32), ("other", b"b" * 32), ("stranger", b"c" * 32))
    )
    platform, apiv3_key = new_key(), b"0123456789abcdef0123456789abcdef"
    for name, party in (("merchant", merchant), ("other", other)):
        (folder / f"{name}_pub.pem").write_text(public_pem(party.rsa))
        (folder / f"{name}.crt").write_text(party.certified.pem)
        (folder / f"{name}_ed25519.pem").write_text(public_pem(party.edwards))
        (folder / f"{name}.key").write_bytes(party.secret)
    (folder / "authority.crt").write_text(authority.pem)
    (folder / "platform_pub.pem").write_text(public_pem(platform))
    (folder / "apiv3.key").write_bytes(apiv3_key)
    (folder / "accounts.jwks.json").write_text(json.dumps({"keys": [_jwk(platform)]}))
    written = Path(__file__).with_name("policy.yaml").read_text(encoding="utf-8")
    (folder / "policy.yaml").write_text(written.replace("PINNED", merchant.certified.sha256), encoding="utf-8")
    policy = load_policy([folder / "policy.yaml"], {})
    provider = issue(UNIONPAY_NAME, new_key(), authority)
    return Keyring(merchant, other, stranger, authority, provider, platform, apiv3_key, policy)


def _jwk(key: rsa.RSAPrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    base64url: Callable[[int], str] = lambda number: (  # noqa: E731
        base64.urlsafe_b64encode(number.to_bytes((number.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()
    )
    return {"kty": "RSA", "kid": "accounts-1", "use": "sig", "alg": "RS256"} | {
        "n": base64url(numbers.n),
        "e": base64url(numbers.e),
    }
