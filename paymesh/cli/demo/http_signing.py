"""Owns signing as a merchant with HTTP message signatures does it (RFC 9421, Ed25519), apart from the gateway's own
verification."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from paymesh.cli.demo.signed_request import SignedRequest


@dataclass(frozen=True, slots=True)
class HttpSignatureMerchant:
    """`base_url`: scheme and authority under which the merchant calls the gateway; they are signed, too."""

    key_id: str
    key: Ed25519PrivateKey
    base_url: str

    @classmethod
    def from_file(cls, key_id: str, file: Path, base_url: str) -> HttpSignatureMerchant:
        key = load_pem_private_key(file.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError(f"{file} is no Ed25519 key")
        return cls(key_id, key, base_url)

    def request(self, method: str, target: str, document: object = None) -> SignedRequest:
        """A request with this JSON document as its body, or without one."""
        body = b"" if document is None else json.dumps(document, ensure_ascii=False).encode()
        headers = {} if document is None else {"Content-Type": "application/json"}
        lines = [f'"@method": {method}', f'"@target-uri": {self.base_url}{target}']
        covered = ['"@method"', '"@target-uri"']
        if document is not None:
            digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
            headers["Content-Digest"] = digest
            lines += ['"content-type": application/json', f'"content-digest": {digest}']
            covered += ['"content-type"', '"content-digest"']
        parameters = (
            f'({" ".join(covered)});created={int(time.time())};keyid="{self.key_id}"'
            f';nonce="{secrets.token_hex(16)}";tag="paymesh"'
        )
        text = "\n".join([*lines, f'"@signature-params": {parameters}'])
        signature = base64.b64encode(self.key.sign(text.encode())).decode()
        signed = {"Signature-Input": f"sig1={parameters}", "Signature": f"sig1=:{signature}:"}
        return SignedRequest(method, target, {**headers, **signed}, body)
