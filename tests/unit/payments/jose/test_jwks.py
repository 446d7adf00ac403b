"""Key sets: what is taken, what is skipped, and what refuses the whole set."""

from __future__ import annotations

import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from paymesh.payments.jose.base64url import encode_base64url
from paymesh.payments.jose.jwks import MAX_KEYS, MAX_SET_BYTES, JwksProblem, parse_jwk, parse_jwks
from paymesh.payments.jose.keys import JwkSet, JwsAlgorithm, secret_keys
from paymesh.payments.secrets import Secret

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(name: str, private: object, **members: object) -> dict[str, object]:
    found = jwt.get_algorithm_by_name(name).to_jwk(private, as_dict=True)
    return {**{key: value for key, value in found.items() if key != "key_ops"}, **members}


GOOD: list[dict[str, object]] = [
    jwk("RS256", RSA.public_key(), kid="r"),
    jwk("ES256", EC.public_key(), kid="e"),
    jwk("EdDSA", ED.public_key(), kid="d"),
]
RSA_JWK, EC_JWK, ED_JWK = GOOD


def parsed(*entries: object, **members: object) -> JwkSet:
    found = parse_jwks(json.dumps({"keys": entries, **members}).encode())
    assert isinstance(found, JwkSet), found
    return found


def detail(entry: object) -> str:
    found = parse_jwk(entry)
    assert isinstance(found, JwksProblem)
    return found.detail


def test_a_set_has_its_keys_in_order() -> None:
    found = parsed(*GOOD, more="members are fine")
    assert [(key.kid, key.algorithm) for key in found.keys] == [("r", "RS256"), ("e", "ES256"), ("d", "EdDSA")]
    assert found.skipped == ()


def test_one_name_may_have_several_keys_and_no_name_has_them_all() -> None:
    twin = jwk("RS256", rsa.generate_private_key(65537, 2048).public_key(), kid="r")
    found = parsed(*GOOD, twin)
    assert len(found.find("r", JwsAlgorithm.RS256)) == 2
    assert len(found.find(None, JwsAlgorithm.RS256)) == 2
    assert found.find("r", JwsAlgorithm.ES256) == ()
    assert found.find("unknown", JwsAlgorithm.RS256) == ()
    assert found.knows("e")
    assert not found.knows("unknown")


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "unheard-of"},
        {"kty": 1},
        {"kty": ["RSA"]},
        {},
        "text",
        None,
        {**RSA_JWK, "use": "enc"},
        {**RSA_JWK, "use": None},
        {**RSA_JWK, "key_ops": ["encrypt"]},
        {**RSA_JWK, "key_ops": "verify"},
        {**RSA_JWK, "alg": "RS512"},
        {**RSA_JWK, "alg": "HS256"},
        {**RSA_JWK, "alg": None},
        {**RSA_JWK, "kid": 7},
        {**RSA_JWK, "n": "not base64!"},
        {**RSA_JWK, "e": "AQ"},
        {**RSA_JWK, "e": "Ag"},
        {**RSA_JWK, "e": ""},
        {**RSA_JWK, "n": encode_base64url(b"\xff" * 2000)},
        {name: value for name, value in RSA_JWK.items() if name != "e"},
        {**EC_JWK, "crv": "P-384"},
        {**EC_JWK, "crv": "secp256k1"},
        {**EC_JWK, "x": encode_base64url(bytes(32))},
        {**EC_JWK, "x": encode_base64url(b"\1" * 31)},
        {**EC_JWK, "alg": "ES384"},
        {**ED_JWK, "crv": "Ed448"},
        {**ED_JWK, "crv": "X25519"},
        {**ED_JWK, "x": encode_base64url(bytes(31))},
    ],
)
def test_an_entry_that_cannot_verify_is_skipped(entry: object) -> None:
    found = parsed(entry, *GOOD)
    assert len(found.keys) == 3
    assert found.skipped[0].startswith("key 0 ")


def test_a_key_for_verifying_among_other_uses() -> None:
    assert len(parsed({**RSA_JWK, "use": "sig", "key_ops": ["verify", "wrapKey"], "alg": "RS256"}).keys) == 1


def test_a_short_rsa_key_is_no_key() -> None:
    small = rsa.generate_private_key(65537, 1024)
    assert "fewer than 2048" in detail(jwk("RS256", small.public_key()))


def test_a_short_secret_is_no_key() -> None:
    assert "at least 32" in detail({"kty": "oct", "k": encode_base64url(bytes(31))})
    with pytest.raises(ValueError, match="at least 32"):
        secret_keys(Secret(bytes(31)))
    assert secret_keys(Secret(bytes(32))).keys[0].algorithm is JwsAlgorithm.HS256


@pytest.mark.parametrize(
    "entry",
    [
        jwk("RS256", RSA, kid="r"),
        jwk("ES256", EC, kid="e"),
        jwk("EdDSA", ED, kid="d"),
        {"kty": "oct", "k": encode_base64url(bytes(32))},
        {"kty": "unheard-of", "d": "AAAA"},
    ],
)
def test_a_private_key_in_a_set_refuses_the_set(entry: dict[str, object]) -> None:
    found = parse_jwks(json.dumps({"keys": [*GOOD, entry]}).encode())
    assert isinstance(found, JwksProblem)
    assert "key 3" in found.detail


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": null}',
        b'{"keys": [], "keys": []}',
        b'{"keys": []} ',
        b'{"keys": [' + b",".join([b"{}"] * (MAX_KEYS + 1)) + b"]}",
        b'{"keys": [], "pad": "' + b"x" * MAX_SET_BYTES + b'"}',
        b'{"keys": ' + b"[" * 100 + b"]" * 100 + b"}",
    ],
)
def test_what_is_no_set(content: bytes) -> None:
    found = parse_jwks(content)
    assert isinstance(found, JwksProblem) or found.keys == ()


def test_two_hundred_keys_are_a_set() -> None:
    assert len(parsed(*[{**ED_JWK, "kid": str(number)} for number in range(MAX_KEYS)]).keys) == MAX_KEYS
