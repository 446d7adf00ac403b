"""Tokens: the RFCs' own, PyJWT's, and every attack that RFC 8725 names."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.jose.base64url import decode_base64url, encode_base64url
from paymesh.payments.jose.jwks import parse_jwk, parse_jwks
from paymesh.payments.jose.jws import MAX_TOKEN_CHARS, CompactJws, JwsProblem, parse_compact, verifies
from paymesh.payments.jose.keys import Jwk, JwkSet, JwsAlgorithm

VECTORS = json.loads((Path(__file__).resolve().parents[3] / "vectors" / "jose_rfc.json").read_text())
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SECRET = secrets.token_bytes(32)
SIGNERS: dict[str, object] = {"RS256": RSA, "ES256": EC, "EdDSA": ED, "HS256": SECRET}


def public_jwk(name: str, **members: object) -> dict[str, object]:
    """The key as PyJWT writes it."""
    if name == "HS256":
        return {"kty": "oct", "k": encode_base64url(SECRET), **members}
    algorithm = jwt.get_algorithm_by_name(name)
    found = algorithm.to_jwk(SIGNERS[name].public_key(), as_dict=True)  # type: ignore[attr-defined]
    return {**{key: value for key, value in found.items() if key != "key_ops"}, **members}


def key(name: str) -> Jwk:
    found = parse_jwk(public_jwk(name))
    assert isinstance(found, Jwk)
    return found


def parsed(token: str) -> CompactJws:
    found = parse_compact(token)
    assert isinstance(found, CompactJws), found
    return found


def token_of(header: object, payload: bytes = b"{}", signature: bytes = b"x") -> str:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return ".".join(encode_base64url(part) for part in (text, payload, signature))


def refused(token: str) -> str:
    found = parse_compact(token)
    assert isinstance(found, JwsProblem)
    return found.detail


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["source"])
def test_the_rfcs_tokens_verify_and_no_changed_one_does(vector: dict[str, object]) -> None:
    found = parse_jwk(vector["key"])
    assert isinstance(found, Jwk)
    token = str(vector["token"])
    assert verifies(found, parsed(token))
    head, payload, signature = token.split(".")
    changed = encode_base64url((decode_base64url(payload) or b"") + b" ")
    assert not verifies(found, parsed(f"{head}.{changed}.{signature}"))
    flipped = bytes([(decode_base64url(signature) or b"")[0] ^ 1]) + (decode_base64url(signature) or b"")[1:]
    assert not verifies(found, parsed(f"{head}.{payload}.{encode_base64url(flipped)}"))


@pytest.mark.parametrize("name", SIGNERS)
def test_pyjwts_tokens_verify_with_their_own_key_alone(name: str) -> None:
    jws = parsed(jwt.encode({"sub": "a"}, SIGNERS[name], algorithm=name, headers={"kid": "k"}))  # type: ignore[arg-type]
    assert (jws.algorithm, jws.kid, jws.type) == (name, "k", "jwt")
    assert [other for other in SIGNERS if verifies(key(other), jws)] == [name]


@pytest.mark.parametrize("name", [None, "none", "None", "NONE", "nOnE", "", "rs256", "HS512", "RS512", "PS256", 1, {}])
def test_only_the_four_algorithms_exactly(name: object) -> None:
    assert "alg" in refused(token_of({"alg": name}))


def test_none_with_an_empty_signature() -> None:
    assert "alg" in refused(token_of({"alg": "none"}, b'{"sub":"a"}', b""))


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_an_rsa_public_key_is_never_an_hmac_secret(encoding: Encoding) -> None:
    head = token_of({"alg": "HS256"}).rpartition(".")[0]
    public = RSA.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    mac = hmac.new(public, head.encode(), hashlib.sha256).digest()
    jws = parsed(f"{head}.{encode_base64url(mac)}")
    assert not verifies(key("RS256"), jws)
    assert JwkSet((key("RS256"),)).find(None, jws.algorithm) == ()


def test_a_key_that_the_token_brings_is_not_looked_at() -> None:
    mine = rsa.generate_private_key(65537, 2048)
    brought = jwt.get_algorithm_by_name("RS256").to_jwk(mine.public_key(), as_dict=True)
    headers = {"jwk": brought, "jku": "https://evil.example/keys", "x5u": "https://evil.example/", "x5c": ["AAAA"]}
    jws = parsed(jwt.encode({"sub": "a"}, mine, algorithm="RS256", headers=headers))
    assert not verifies(key("RS256"), jws)


@pytest.mark.parametrize(
    "extra",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"crit": None},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
        {"zip": "DEF"},
        {"enc": "A128GCM"},
        {"kid": 1},
        {"kid": None},
        {"kid": ""},
        {"kid": "k" * 257},
        {"kid": ["k"]},
        {"typ": 1},
        {"typ": None},
    ],
)
def test_headers_that_are_not_understood(extra: dict[str, object]) -> None:
    refused(token_of({"alg": "RS256", **extra}))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"null",
        b'{"alg":"RS256","alg":"HS256"}',
        b'{"alg":"RS256","\\u0061lg":"HS256"}',
        b'{"alg":"RS256"} x',
        b'\xef\xbb\xbf{"alg":"RS256"}',
        b'{"alg":"RS256","a":NaN}',
        b'{"alg":"RS256","a":' + b"[" * 50 + b"]" * 50 + b"}",
        b'{"alg":"RS256","a":"\xff"}',
    ],
)
def test_headers_that_two_parsers_could_read_differently(header: bytes) -> None:
    refused(token_of(header))


def test_every_second_spelling_of_a_token_is_refused() -> None:
    token = jwt.encode({"sub": "a"}, ED, algorithm="EdDSA")
    jws = parsed(token)
    spellings = [f"{token}=", f"{token}==", f" {token}", f"{token}\n", f"{token}.", token.replace(".", "..", 1)]
    spellings += [token + "A", token.rpartition(".")[0], token.replace("-", "+").replace("_", "/") + "+"]
    # 64 bytes end in a character of which two bits count: 15 others decode alike.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings += [token[:-1] + other for other in alphabet if other != token[-1]]
    for spelling in spellings:
        found = parse_compact(spelling)
        assert isinstance(found, JwsProblem) or not verifies(key("EdDSA"), found)
    alike = [token[:-1] + other for other in alphabet if isinstance(parse_compact(token[:-1] + other), CompactJws)]
    assert len(alike) == 4
    assert verifies(key("EdDSA"), jws)


def test_a_long_token_is_not_read() -> None:
    assert "longer" in refused("a." * MAX_TOKEN_CHARS)
    assert parse_compact(token_of({"alg": "RS256"}, b"x" * 5000)) is not None
    assert "longer" in refused(token_of({"alg": "RS256"}, b"x" * 8192))


@pytest.mark.parametrize("length", [0, 1, 63, 65, 70, 72, 96])
def test_an_es256_signature_has_64_bytes(length: int) -> None:
    assert not verifies(key("ES256"), parsed(token_of({"alg": "ES256"}, signature=b"\1" * length)))


@pytest.mark.parametrize("signature", [bytes(64), b"\xff" * 64, bytes(32) + b"\1" * 32, b"\1" * 32 + bytes(32)])
def test_es256_signatures_out_of_range(signature: bytes) -> None:
    """CVE-2022-21449: r and s of zero."""
    assert not verifies(key("ES256"), parsed(token_of({"alg": "ES256"}, signature=signature)))


def test_a_der_signature_is_none_of_es256() -> None:
    head = token_of({"alg": "ES256"}).rpartition(".")[0]
    der = EC.sign(head.encode(), ec.ECDSA(SHA256()))
    assert not verifies(key("ES256"), parsed(f"{head}.{encode_base64url(der)}"))


def test_nothing_of_a_token_is_shown() -> None:
    token = jwt.encode({"sub": "somebody"}, SECRET, algorithm="HS256")
    assert "somebody" not in repr(parsed(token))
    assert encode_base64url(SECRET) not in repr(key("HS256"))
    assert repr(SECRET) not in repr(key("HS256"))


@pytest.mark.parametrize("text", ["A", "AB", "AAB", "A=", "AA==", "AA AA", "AA\n", "AA+/", "ＡＡ", "AA\x00"])
def test_base64url_has_one_spelling(text: str) -> None:
    assert decode_base64url(text) is None


@given(st.binary(max_size=200))
def test_base64url_both_ways(data: bytes) -> None:
    assert decode_base64url(encode_base64url(data)) == data


@given(st.text())
def test_any_text_is_a_token_or_a_problem(text: str) -> None:
    assert isinstance(parse_compact(text), JwsProblem)


@given(st.binary(max_size=300), st.binary(max_size=100), st.binary(max_size=100))
def test_any_bytes_in_a_tokens_parts(header: bytes, payload: bytes, signature: bytes) -> None:
    assert isinstance(parse_compact(token_of(header, payload, signature)), JwsProblem | CompactJws)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = ["alg", "kid", "typ", "crit", "b64", "kty", "crv", "n", "e", "x", "y", "k", "use", "key_ops"]
HEADERS = st.dictionaries(st.sampled_from(MEMBERS), JSON | st.sampled_from([*SIGNERS, "RSA", "EC", "OKP", "oct"]))


@given(HEADERS, st.binary(max_size=80))
def test_any_header_is_a_value(header: dict[str, object], signature: bytes) -> None:
    found = parse_compact(token_of(header, signature=signature))
    assert isinstance(found, JwsProblem) or not any(verifies(key(name), found) for name in SIGNERS)


@given(HEADERS)
def test_any_object_as_a_key_is_a_value(entry: dict[str, object]) -> None:
    parse_jwk(entry)
    parse_jwks(json.dumps({"keys": [entry]}).encode())


@given(st.binary(max_size=300))
def test_any_bytes_as_a_key_set_are_a_value(content: bytes) -> None:
    parse_jwks(content)


def test_algorithms_are_the_four() -> None:
    assert set(JwsAlgorithm) == set(SIGNERS)
