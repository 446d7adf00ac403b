"""Owns signing as an Alipay merchant or as Alipay does it, in both generations of its API. Refuses nothing.

The gateway's own verification is not used here, and this is not used there: a mistake would not cancel out.
Rules: protocols.md section 1, held against the published SDKs (tests/sdk).
"""

from __future__ import annotations

import datetime
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote_plus

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from paymesh.cli.demo.rsa_signing import load_key, sign_rsa_sha256
from paymesh.cli.demo.signed_request import SignedRequest

Place = Literal["form", "query", "split"]
GATEWAY_PATH = "/gateway.do"
SHANGHAI = datetime.timezone(datetime.timedelta(hours=8))
"""China keeps no summer time: no time zone database is needed."""
_RSA_SIGNED = (
    SignatureAlgorithmOID.RSA_WITH_SHA1,
    SignatureAlgorithmOID.RSA_WITH_SHA256,
    SignatureAlgorithmOID.RSA_WITH_SHA384,
    SignatureAlgorithmOID.RSA_WITH_SHA512,
)
_ISSUER_PARTS = (
    ("CN", NameOID.COMMON_NAME),
    ("OU", NameOID.ORGANIZATIONAL_UNIT_NAME),
    ("O", NameOID.ORGANIZATION_NAME),
    ("C", NameOID.COUNTRY_NAME),
)


@dataclass(frozen=True, slots=True)
class AlipayMerchant:
    """An application of Alipay v2 (`gateway.do`); with the two serials in certificate mode, else in key mode."""

    app_id: str
    key: rsa.RSAPrivateKey
    app_cert_sn: str | None = None
    root_cert_sn: str | None = None

    @classmethod
    def from_file(cls, app_id: str, file: Path) -> AlipayMerchant:
        return cls(app_id, load_key(file))

    @classmethod
    def from_certificates(cls, app_id: str, key: Path, app_certificate: Path, roots: Path) -> AlipayMerchant:
        return cls(app_id, load_key(key), cert_sn(app_certificate.read_bytes()), root_cert_sn(roots.read_bytes()))

    def parameters(
        self,
        method: str,
        biz_content: Mapping[str, object],
        *,
        at_s: float | None = None,
        charset: str = "utf-8",
        extra: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """All parameters of a call, `sign` last; `at_s` Unix seconds (default: now)."""
        parameters = {
            "app_id": self.app_id,
            "method": method,
            "format": "JSON",
            "charset": charset,
            "sign_type": "RSA2",
            "timestamp": alipay_time(at_s),
            "version": "1.0",
            "biz_content": json.dumps(biz_content, ensure_ascii=False, separators=(",", ":")),
            **({} if self.app_cert_sn is None else {"app_cert_sn": self.app_cert_sn}),
            **({} if self.root_cert_sn is None else {"alipay_root_cert_sn": self.root_cert_sn}),
            **(extra or {}),
        }
        return {**parameters, "sign": sign_rsa_sha256(self.key, sorted_text(parameters).encode(charset))}

    def request(
        self,
        method: str,
        biz_content: Mapping[str, object],
        *,
        place: Place = "form",
        http_method: str = "POST",
        at_s: float | None = None,
        charset: str = "utf-8",
        extra: Mapping[str, str] | None = None,
    ) -> SignedRequest:
        """A call ready to be sent. `place`: where the parameters stand; split: `biz_content` alone in the form."""
        parameters = self.parameters(method, biz_content, at_s=at_s, charset=charset, extra=extra)
        in_form = {"form": set(parameters), "query": set(), "split": {"biz_content"}}[place]
        query = encode_form({k: v for k, v in parameters.items() if k not in in_form}, charset)
        body = encode_form({k: v for k, v in parameters.items() if k in in_form}, charset).encode("ascii")
        headers = {"Content-Type": f"application/x-www-form-urlencoded;charset={charset}"} if body else {}
        return SignedRequest(http_method, f"{GATEWAY_PATH}?{query}" if query else GATEWAY_PATH, headers, body)


@dataclass(frozen=True, slots=True)
class AlipayV3Merchant:
    """An application of Alipay v3 (REST); with the serials in certificate mode."""

    app_id: str
    key: rsa.RSAPrivateKey
    app_cert_sn: str | None = None
    root_cert_sn: str | None = None

    @classmethod
    def from_file(cls, app_id: str, file: Path) -> AlipayV3Merchant:
        return cls(app_id, load_key(file))

    @classmethod
    def from_certificates(cls, app_id: str, key: Path, app_certificate: Path, roots: Path) -> AlipayV3Merchant:
        return cls(app_id, load_key(key), cert_sn(app_certificate.read_bytes()), root_cert_sn(roots.read_bytes()))

    def headers(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        at_ms: int | None = None,
        nonce: str | None = None,
        app_auth_token: str | None = None,
        expired_seconds: int | None = None,
    ) -> dict[str, str]:
        """The credential headers of one request; `at_ms` Unix milliseconds (default: now)."""
        fields = {
            "app_id": self.app_id,
            **({} if self.app_cert_sn is None else {"app_cert_sn": self.app_cert_sn}),
            "nonce": nonce or secrets.token_hex(16),
            "timestamp": str(int(time.time() * 1000) if at_ms is None else at_ms),
            **({} if expired_seconds is None else {"expired_seconds": str(expired_seconds)}),
        }
        auth = ",".join(f"{name}={value}" for name, value in fields.items())
        token_line = b"" if app_auth_token is None else f"{app_auth_token}\n".encode()
        text = f"{auth}\n{method}\n{target}\n".encode() + body + b"\n" + token_line
        return {
            "Authorization": f"ALIPAY-SHA256withRSA {auth},sign={sign_rsa_sha256(self.key, text)}",
            **({} if self.root_cert_sn is None else {"alipay-root-cert-sn": self.root_cert_sn}),
            **({} if app_auth_token is None else {"alipay-app-auth-token": app_auth_token}),
        }

    def multipart(self, target: str, data: bytes, files: Mapping[str, bytes]) -> SignedRequest:
        """A POST whose JSON part `data` is signed, and whose files are not."""
        boundary = secrets.token_hex(12)
        parts = [_part(boundary, 'name="data"', "application/json", data)]
        parts += [
            _part(boundary, f'name="{name}"; filename="{name}"', "application/octet-stream", content)
            for name, content in files.items()
        ]
        headers = {
            **self.headers("POST", target, data),
            "Content-Type": f"multipart/form-data; boundary={boundary}",
        }
        return SignedRequest("POST", target, headers, b"".join(parts) + f"--{boundary}--\r\n".encode())


@dataclass(frozen=True, slots=True)
class AlipayProvider:
    """Alipay itself: signs the answers of both APIs, and notifications."""

    key: rsa.RSAPrivateKey
    cert_sn: str | None = None
    """Told in answers to merchants in certificate mode."""

    @classmethod
    def from_folder(cls, folder: Path) -> AlipayProvider:
        certificate = folder / "alipay_platform.crt"
        return cls(load_key(folder / "alipay_platform.pem"), cert_sn(certificate.read_bytes()))

    def answer(
        self, method: str, document: Mapping[str, object], *, charset: str = "utf-8", certificate_mode: bool = False
    ) -> bytes:
        """A v2 answer. What is signed is the text of the object as it stands there, braces included."""
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        # `..._response` before `sign`: two SDKs look for them in that order (protocols.md section 1).
        parts = [f'"{method.replace(".", "_")}_response":{text}']
        if certificate_mode:
            parts.append(f'"alipay_cert_sn":"{self.cert_sn}"')
        parts.append(f'"sign":"{sign_rsa_sha256(self.key, text.encode(charset))}"')
        return ("{" + ",".join(parts) + "}").encode(charset)

    def sign_v3(self, body: bytes, *, at_ms: int | None = None) -> dict[str, str]:
        """The headers that sign a v3 answer's body."""
        stamp, nonce = str(int(time.time() * 1000) if at_ms is None else at_ms), secrets.token_hex(16)
        headers = {
            "alipay-timestamp": stamp,
            "alipay-nonce": nonce,
            "alipay-signature": sign_rsa_sha256(self.key, f"{stamp}\n{nonce}\n".encode() + body + b"\n"),
        }
        return headers if self.cert_sn is None else {**headers, "alipay-sn": self.cert_sn}

    def notification(
        self, fields: Mapping[str, str], *, at_s: float | None = None, charset: str = "utf-8"
    ) -> tuple[dict[str, str], bytes]:
        """Headers and body of a notification about a trade; what `fields` does not say is filled in."""
        filled = {
            "notify_time": alipay_time(at_s),
            "notify_type": "trade_status_sync",
            "notify_id": f"{time.time_ns()}{secrets.randbelow(10**8):08}",
            "charset": charset,
            "version": "1.0",
            "sign_type": "RSA2",
            "trade_status": "TRADE_SUCCESS",
            **fields,
        }
        # Neither `sign` nor `sign_type`, unlike in a merchant's request.
        text = sorted_text({name: value for name, value in filled.items() if name != "sign_type"})
        signed = {**filled, "sign": sign_rsa_sha256(self.key, text.encode(charset))}
        headers = {"Content-Type": f"application/x-www-form-urlencoded; charset={charset}"}
        return headers, encode_form(signed, charset).encode("ascii")


def sorted_text(parameters: Mapping[str, str]) -> str:
    """`k=v&k=v` sorted by name, nothing encoded, without empty values."""
    return "&".join(f"{name}={value}" for name, value in sorted(parameters.items()) if value)


def encode_form(parameters: Mapping[str, str], charset: str = "utf-8") -> str:
    """application/x-www-form-urlencoded in the given charset."""
    return "&".join(f"{name}={quote_plus(value, encoding=charset)}" for name, value in parameters.items())


def alipay_time(at_s: float | None = None) -> str:
    """`yyyy-MM-dd HH:mm:ss` in Shanghai; `at_s` Unix seconds (default: now)."""
    moment = datetime.datetime.fromtimestamp(time.time() if at_s is None else at_s, SHANGHAI)
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def cert_sn(pem: bytes) -> str:
    """A certificate's `app_cert_sn` or `alipay_cert_sn`: MD5 over issuer and serial, as Alipay names certificates."""
    return _cert_sn(x509.load_pem_x509_certificate(pem))


def root_cert_sn(pem: bytes) -> str:
    """`alipay_root_cert_sn`: the names of the bundle's RSA-signed certificates, joined by `_`; others do not count."""
    certificates = x509.load_pem_x509_certificates(pem)
    return "_".join(_cert_sn(one) for one in certificates if one.signature_algorithm_oid in _RSA_SIGNED)


def _cert_sn(certificate: x509.Certificate) -> str:
    issuer = ",".join(
        f"{short}={certificate.issuer.get_attributes_for_oid(oid)[0].value!s}" for short, oid in _ISSUER_PARTS
    )
    # A name, not a protection: the algorithm is Alipay's.
    return hashlib.md5(f"{issuer}{certificate.serial_number}".encode(), usedforsecurity=False).hexdigest()


def _part(boundary: str, disposition: str, content_type: str, content: bytes) -> bytes:
    head = f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: {content_type}\r\n\r\n"
    return head.encode() + content + b"\r\n"
