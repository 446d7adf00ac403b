"""Owns turning written credentials into keys: merchants', providers' and the gateway's own, each under its name."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from paymesh.payments.credentials import verifiers as v
from paymesh.payments.jose.fetch import url_problem
from paymesh.payments.jose.jwks import JwksProblem, parse_jwks
from paymesh.payments.jose.keys import JWS_ALGORITHMS, JwkSet, JwsAlgorithm, secret_keys
from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import credential_documents as d
from paymesh.payments.policy.callers import Algorithm, CredentialKey, KeyKind, KeyRef, Merchant, Scheme, Verifier
from paymesh.payments.policy.certificates import CertificateTrust
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.problems import DocumentPath
from paymesh.payments.policy.references import PublicKeyFound
from paymesh.payments.secrets import Secret
from paymesh.payments.signers import Signer

MIN_SECRET_BYTES = 16
MIN_SIGNATURE_SECRET_BYTES = 32
"""RFC 9421 leaves it open; RFC 2104 section 3 advises the digest's length."""
APIV3_KEY_BYTES = 32
"""protocols.md section 1: the APIv3 key is the AES-256 key itself."""
MAX_KEYS_OF_ONE_NAME = 8
"""Each is tried: this bounds the work that one request can cause."""

_WECHAT_SERIAL = re.compile(r"[0-9A-Fa-f]{1,40}|PUB_KEY_ID_[0-9A-Za-z]{1,52}")
_SECRET_ID_KEY = os.urandom(32)

Keys = dict[KeyRef, tuple[CredentialKey, ...]]


def normalize_serial(serial: str) -> str:
    """Certificate serials are hex in either case and may have leading zeros; PUB_KEY_ID_... stays as it is."""
    if serial.startswith("PUB_KEY_ID_"):
        return serial
    return serial.upper().lstrip("0") or "0"


def alipay_cert_sn(certificate: x509.Certificate) -> str:
    """`app_cert_sn`: the MD5, as a name only, of the issuer (last component first) and the decimal serial."""
    text = f"{certificate.issuer.rfc4514_string()}{certificate.serial_number}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class CredentialCompiler:
    """Gathers the keys of all merchants and channels."""

    def __init__(self, findings: Findings, issuers: Mapping[str, object]) -> None:
        self._findings = findings
        self._issuers = issuers
        self.keys: Keys = {}
        self.identities: dict[KeyRef, Merchant] = {}
        self.certificates: dict[str, CertificateTrust] = {}

    # -- merchants -----------------------------------------------------------------------------------------------

    def add(self, document: d.CredentialDocument, path: DocumentPath, merchant: Merchant) -> None:
        """One credential of a merchant."""
        _MERCHANT_KEYS[type(document)](self, document, path, merchant)

    def _wechat(self, document: d.WechatCredentialDocument, path: DocumentPath, merchant: Merchant) -> None:
        found = self._rsa((*path, "public_key"), document.public_key)
        self._identify(KeyRef(KeyKind.MCHID, document.mchid), merchant, (*path, "mchid"))
        if found is None:
            return
        serial = document.serial_no or (f"{found.certificate.serial_number:X}" if found.certificate else None)
        if serial is None:
            self._findings.problem((*path, "serial_no"), "is required where the key is not a certificate")
            return
        serial = normalize_serial(serial)
        ref = KeyRef(KeyKind.WECHAT, f"{document.mchid}/{serial}")
        proves = {"mchid": document.mchid}
        key = dated_key(serial, v.RsaSha256(found.rsa), merchant, proves, document, found.certificate)
        self._add_unique(ref, key, (*path, "serial_no"), f"serial {serial} is used twice for mchid {document.mchid}")

    def _alipay(self, document: d.AlipayCredentialDocument, path: DocumentPath, merchant: Merchant) -> None:
        found = self._rsa((*path, "public_key"), document.public_key)
        self._identify(KeyRef(KeyKind.APP_ID, document.app_id), merchant, (*path, "app_id"))
        if found is None:
            return
        proves = {"app_id": document.app_id}
        if document.seller_id is not None:
            proves["seller_id"] = document.seller_id
        serial = document.app_cert_sn or (alipay_cert_sn(found.certificate) if found.certificate else None)
        verifier = v.RsaSha256(found.rsa)
        if serial is None:
            key = dated_key(_fingerprint(found.rsa), verifier, merchant, proves, document)
            self._add(KeyRef(KeyKind.ALIPAY, document.app_id), key, path)
            return
        ref = KeyRef(KeyKind.ALIPAY, f"{document.app_id}/{serial}")
        key = dated_key(serial, verifier, merchant, proves, document, found.certificate)
        self._add_unique(ref, key, path, f"certificate {serial} is used twice for app_id {document.app_id}")

    def _unionpay(self, document: d.UnionpayCredentialDocument, path: DocumentPath, merchant: Merchant) -> None:
        self._identify(KeyRef(KeyKind.MER_ID, document.mer_id), merchant, (*path, "mer_id"))
        proves = {"mer_id": document.mer_id}
        if document.secure_key is not None:
            secret = self._findings.secret((*path, "secure_key"), document.secure_key, at_least=MIN_SECRET_BYTES)
            if secret is None:
                return
            for algorithm in (Algorithm.UNIONPAY_SHA256, Algorithm.UNIONPAY_SM3):
                if algorithm is Algorithm.UNIONPAY_SHA256 or v.supports_sm3():
                    # Under the algorithm's own name, so that method 11 never tries a key of method 12.
                    ref = KeyRef(KeyKind.UNIONPAY, f"{document.mer_id}/{algorithm}")
                    verifier = v.UnionpaySecret(secret, algorithm)
                    self._add(ref, dated_key(_secret_id(secret), verifier, merchant, proves, document), path)
            return
        assert document.certificate is not None  # the model's own check
        found = self._rsa((*path, "certificate"), document.certificate)
        if found is None:
            return
        cert_id = document.cert_id or (str(found.certificate.serial_number) if found.certificate else None)
        if cert_id is None:
            self._findings.problem((*path, "cert_id"), "is required where the key is not a certificate")
            return
        ref = KeyRef(KeyKind.UNIONPAY, f"{document.mer_id}/{cert_id}")
        key = dated_key(cert_id, v.RsaSha256(found.rsa), merchant, proves, document, found.certificate)
        self._add_unique(ref, key, path, f"certificate {cert_id} is used twice for mer_id {document.mer_id}")

    def _hmac(self, document: d.HmacCredentialDocument, path: DocumentPath, merchant: Merchant) -> None:
        secret = self._findings.secret((*path, "secret"), document.secret, at_least=MIN_SECRET_BYTES)
        if secret is None:
            return
        key = dated_key(document.key_id, v.HmacSha256Secret(secret), merchant, {}, document)
        ref = KeyRef(KeyKind.HMAC, document.key_id)
        self._add_unique(ref, key, (*path, "key_id"), f"key id {document.key_id} is used twice")

    def _http_signature(
        self, document: d.HttpSignatureCredentialDocument, path: DocumentPath, merchant: Merchant
    ) -> None:
        verifier: Verifier | None = None
        certificate = None
        if document.secret is not None:
            secret = self._findings.secret((*path, "secret"), document.secret, at_least=MIN_SIGNATURE_SECRET_BYTES)
            verifier = None if secret is None else v.HmacSha256Secret(secret)
        else:
            place = (*path, "public_key")
            found = self._findings.resolve(place, self._findings.references.public_key, document.public_key)
            if found is not None:
                verifier, certificate = _asymmetric(document.algorithm, found.key), found.certificate
                if verifier is None:
                    self._findings.problem(place, f"is not a key for {document.algorithm}")
        if verifier is None:
            return
        key = dated_key(document.key_id, verifier, merchant, {}, document, certificate)
        ref = KeyRef(KeyKind.HTTP_SIGNATURE, document.key_id)
        self._add_unique(ref, key, (*path, "key_id"), f"key id {document.key_id} is used twice")

    def _jwt(self, document: d.JwtCredentialDocument, path: DocumentPath, merchant: Merchant) -> None:
        if document.issuer not in self._issuers:
            self._findings.unknown((*path, "issuer"), "JWT issuer", document.issuer, self._issuers)
        if document.valid_from is not None or document.valid_until is not None:
            self._findings.problem(path, "tokens have dates of their own: remove valid_from and valid_until")
        ref = KeyRef(KeyKind.JWT, f"{document.issuer}/{document.subject}")
        self._identify(ref, merchant, (*path, "subject"))

    def _mtls(self, document: d.MtlsCredentialDocument, path: DocumentPath, merchant: Merchant) -> None:
        name = document.spiffe_id or f"sha256:{document.certificate_sha256}"
        key = dated_key(name, v.ProvenInTls(), merchant, {}, document)
        self._add_unique(KeyRef(KeyKind.MTLS, name), key, path, f"{name} is used twice")

    # -- providers -----------------------------------------------------------------------------------------------

    def notifications(
        self, document: d.NotificationDocument, path: DocumentPath, channel: str
    ) -> c.Notifications | None:
        """What is needed to read a channel's notifications; its provider's keys are added to `keys`."""
        if isinstance(document, d.WechatNotificationDocument):
            return self._wechat_notifications(document, path, channel)
        if isinstance(document, d.AlipayNotificationDocument):
            return self._alipay_notifications(document, path, channel)
        certificates = self._findings.resolve(
            (*path, "authorities"), self._findings.references.certificates, document.authorities
        )
        if certificates is None:
            return None
        self.certificates[channel] = CertificateTrust(certificates, re.compile(document.common_name))
        return c.Notifications(Scheme.UNIONPAY_NOTIFICATION)

    def _wechat_notifications(
        self, document: d.WechatNotificationDocument, path: DocumentPath, channel: str
    ) -> c.Notifications | None:
        for number, platform in enumerate(document.platform_keys):
            place = (*path, "platform_keys", number)
            found = self._rsa((*place, "public_key"), platform.public_key)
            if found is not None:
                serial = normalize_serial(platform.serial_no)
                key = dated_key(serial, v.RsaSha256(found.rsa), None, {}, platform, found.certificate)
                self._add_unique(
                    KeyRef(KeyKind.PROVIDER, f"{channel}/{serial}"), key, place, f"serial {serial} is used twice"
                )
        secret = self._findings.secret((*path, "apiv3_key"), document.apiv3_key, exactly=APIV3_KEY_BYTES)
        return None if secret is None else c.Notifications(Scheme.WECHAT_V3_NOTIFICATION, apiv3_key=secret)

    def _alipay_notifications(
        self, document: d.AlipayNotificationDocument, path: DocumentPath, channel: str
    ) -> c.Notifications:
        for number, platform in enumerate(document.platform_keys):
            place = (*path, "platform_keys", number)
            found = self._rsa((*place, "public_key"), platform.public_key)
            if found is not None:
                key = dated_key(_fingerprint(found.rsa), v.RsaSha256(found.rsa), None, {}, platform, found.certificate)
                self._add(KeyRef(KeyKind.PROVIDER, channel), key, place)
        return c.Notifications(Scheme.ALIPAY_NOTIFICATION)

    # -- issuers of tokens -----------------------------------------------------------------------------------------

    def issuer(self, document: d.JwtIssuerDocument, path: DocumentPath) -> c.JwtIssuer | None:
        keys: JwkSet | str | None = None
        if document.secret is not None:
            secret = self._findings.secret((*path, "secret"), document.secret, at_least=MIN_SIGNATURE_SECRET_BYTES)
            keys = None if secret is None else secret_keys(secret)
        elif isinstance(document.jwks, d.KeySetUrlDocument):
            keys = document.jwks.url
            problem = url_problem(keys)
            if problem is not None:
                self._findings.problem((*path, "jwks", "url"), problem)
        else:
            keys = self._key_set((*path, "jwks"), document.jwks)
        if keys is None:
            return None
        algorithms = frozenset(JWS_ALGORITHMS[JwsAlgorithm(name)] for name in document.algorithms)
        return c.JwtIssuer(
            document.name, document.issuer, document.audiences, algorithms, document.leeway // 1000, keys
        )

    def _key_set(self, path: DocumentPath, source: object) -> JwkSet | None:
        content = self._findings.resolve(path, self._findings.references.content, source)
        found = None if content is None else parse_jwks(content)
        if isinstance(found, JwksProblem):
            self._findings.problem(path, found.detail)
            return None
        if found is not None and not found.keys:
            self._findings.problem(path, f"has no usable key ({'; '.join(found.skipped) or 'it is empty'})")
            return None
        return found

    # -- the gateway's own -----------------------------------------------------------------------------------------

    def signer(self, document: d.ResponseSignerDocument, path: DocumentPath) -> Signer | None:
        key = self._findings.resolve(
            (*path, "private_key"), self._findings.references.rsa_private_key, document.private_key
        )
        found = None
        if document.certificate is not None:
            found = self._rsa((*path, "certificate"), document.certificate)
        if key is None or (document.certificate is not None and found is None):
            return None
        certificate = None if found is None else found.certificate
        if certificate is not None and found is not None and found.rsa != key.public_key():
            self._findings.problem((*path, "certificate"), "is not the private key's")
        if document.protocol is c.Protocol.UNIONPAY and certificate is None:
            self._findings.problem((*path, "certificate"), "is required: UnionPay's answers carry the certificate")
            return None
        serial = document.serial or serial_for(document.protocol, certificate)
        if document.protocol is c.Protocol.WECHAT_V3 and not _WECHAT_SERIAL.fullmatch(serial):
            what = "a certificate's serial (hex) or PUB_KEY_ID_..., by which WeChat Pay's SDKs look for the key"
            self._findings.problem((*path, "serial"), f"must be {what}" if serial else f"is required: {what}")
            return None
        return Signer(key, serial, _pem(certificate))

    # -- bookkeeping -----------------------------------------------------------------------------------------------

    def _rsa(self, path: DocumentPath, source: object) -> PublicKeyFound | None:
        return self._findings.resolve(path, self._findings.references.rsa_key, source)

    def _identify(self, ref: KeyRef, merchant: Merchant, path: DocumentPath) -> None:
        owner = self.identities.setdefault(ref, merchant)
        if owner.id != merchant.id:
            what = "subject" if ref.kind is KeyKind.JWT else ref.kind
            self._findings.problem(path, f"{what} {ref.name} belongs to merchant {owner.id} already")

    def _add_unique(self, ref: KeyRef, key: CredentialKey, path: DocumentPath, twice: str) -> None:
        if ref in self.keys:
            self._findings.problem(path, twice)
        self.keys[ref] = (key,)

    def _add(self, ref: KeyRef, key: CredentialKey, path: DocumentPath) -> None:
        known = self.keys.get(ref, ())
        if any(other.id == key.id for other in known):
            self._findings.problem(path, f"key {key.id} is given twice for {ref.name}")
            return
        if len(known) >= MAX_KEYS_OF_ONE_NAME:
            self._findings.problem(path, f"more than {MAX_KEYS_OF_ONE_NAME} keys for {ref.name}: each would be tried")
            return
        self.keys[ref] = (*known, key)


_MERCHANT_KEYS: Mapping[type, Callable[[CredentialCompiler, Any, DocumentPath, Merchant], None]] = {
    d.WechatCredentialDocument: CredentialCompiler._wechat,
    d.AlipayCredentialDocument: CredentialCompiler._alipay,
    d.UnionpayCredentialDocument: CredentialCompiler._unionpay,
    d.HmacCredentialDocument: CredentialCompiler._hmac,
    d.HttpSignatureCredentialDocument: CredentialCompiler._http_signature,
    d.JwtCredentialDocument: CredentialCompiler._jwt,
    d.MtlsCredentialDocument: CredentialCompiler._mtls,
}


def dated_key(
    name: str,
    verifier: Verifier,
    merchant: Merchant | None,
    proves: Mapping[str, str],
    document: d.DatedDocument,
    certificate: x509.Certificate | None = None,
) -> CredentialKey:
    starts = [document.valid_from] if document.valid_from else []
    ends = [document.valid_until] if document.valid_until else []
    if certificate is not None:
        starts.append(certificate.not_valid_before_utc)
        ends.append(certificate.not_valid_after_utc)
    return CredentialKey(
        id=name,
        verifier=verifier,
        merchant=merchant,
        proves=proves,
        valid_from_s=max(map(_seconds, starts), default=None),
        valid_until_s=min(map(_seconds, ends), default=None),
    )


def _seconds(moment: datetime.datetime) -> int:
    return int(moment.timestamp())


def _asymmetric(algorithm: Algorithm, key: object) -> Verifier | None:
    if isinstance(key, RSAPublicKey):
        if algorithm is Algorithm.RSA_SHA256:
            return v.RsaSha256(key)
        return v.RsaPssSha512(key) if algorithm is Algorithm.RSA_PSS_SHA512 else None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return v.EcdsaP256(key) if algorithm is Algorithm.ECDSA_P256_SHA256 else None
    if isinstance(key, ed25519.Ed25519PublicKey):
        return v.Ed25519(key) if algorithm is Algorithm.ED25519 else None
    return None


def _fingerprint(key: RSAPublicKey) -> str:
    """What a key without a name is called in the log."""
    numbers = key.public_numbers()
    return "sha256:" + hashlib.sha256(f"{numbers.n:x}/{numbers.e:x}".encode()).hexdigest()[:16]


def _secret_id(secret: Secret) -> str:
    """What a secret without a name is called in the log: tells two apart, and nothing about either."""
    return "hmac:" + hmac.new(_SECRET_ID_KEY, secret.reveal(), hashlib.sha256).hexdigest()[:8]


def serial_for(protocol: c.Protocol, certificate: x509.Certificate | None) -> str:
    if certificate is None:
        return ""
    if protocol is c.Protocol.UNIONPAY:
        return str(certificate.serial_number)
    if protocol is c.Protocol.WECHAT_V3:
        return f"{certificate.serial_number:X}"
    return alipay_cert_sn(certificate)


def _pem(certificate: x509.Certificate | None) -> str:
    return "" if certificate is None else certificate.public_bytes(Encoding.PEM).decode()
