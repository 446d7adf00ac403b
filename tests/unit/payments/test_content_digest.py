"""Content-Digest: what RFC 9530's own examples say, and every spelling that two readers could take differently."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.content_digest import MAX_FIELD_CHARS, content_digest_problem, parse_dictionary

HELLO = b'{"hello": "world"}'
SHA256 = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
SHA512 = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"
WRONG256 = f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"
MD5 = f"md5=:{base64.b64encode(hashlib.md5(HELLO).digest()).decode()}:"


@pytest.mark.parametrize(
    ("value", "body"),
    [
        # RFC 9530 appendix B.1, B.2 (no content), B.7; RFC 9421 appendix B.2.
        ("sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:", b'{"hello": "world"}\n'),
        ("sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", b""),
        ("sha-256=:mEkdbO7Srd9LIOegftO0aBX+VPTVz7/CSHes2Z27gc4=:", b'{"title": "New Title"}\n'),
        (SHA512, HELLO),
        # Both, in any order; white space; algorithms that say nothing beside one that does.
        (f"{SHA256}, {SHA512}", HELLO),
        (f"{SHA512},\t{SHA256}", HELLO),
        (f"{MD5}, {SHA256}", HELLO),
        (f"future-algorithm=:AAAA:, {SHA256}", HELLO),
        (f"{SHA256};source=client", HELLO),
    ],
)
def test_the_bodys_own_digest(value: str, body: bytes) -> None:
    assert content_digest_problem(value, body) is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (WRONG256, "not the body's"),
        # Every one known must be right, wherever the wrong one stands.
        (f"{SHA512}, {WRONG256}", "not the body's"),
        (f"{WRONG256}, {SHA512}", "not the body's"),
        ("sha-256=::", "not the body's"),
        (SHA256.replace("sha-256", "sha-512"), "not the body's"),
        ("", "neither"),
        (MD5, "neither"),
        ("sha-384=:AAAA:", "neither"),
        (f"{SHA256}, {SHA256}", "each named once"),
        (f"{WRONG256}, {SHA256}", "each named once"),
        (f"{SHA256};a=1;a=2", "each named once"),
        (SHA256.replace("sha-256", "SHA-256"), "not a dictionary"),
        (SHA256.removesuffix(":"), "not a dictionary"),
        (f"{SHA256},", "not a dictionary"),
        (f"{SHA256} {SHA512}", "not a dictionary"),
        (SHA256 + "é", "not a dictionary"),
        (SHA256 + "\udcff", "not a dictionary"),
        ("X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=", "not a dictionary"),
        ('sha-256="X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE="', "no byte sequence"),
        ("sha-256", "no byte sequence"),
        (f"sha-512=5, {SHA256}", "no byte sequence"),
        (f"sha-512=(:AAAA:), {SHA256}", "no byte sequence"),
        # Without padding, with too much of it (so printed in RFC 9530 appendix B.5), with bits that decoders drop.
        (SHA256.replace("=:", ":").replace("sha-256:", "sha-256=:"), "canonical"),
        (SHA256.replace("=:", "==:").replace("sha-256==:", "sha-256=:"), "canonical"),
        (SHA256.replace("PE=", "PF="), "canonical"),
        (SHA512.replace("+", "-").replace("/", "_"), "not a dictionary"),
        (SHA256 + " " * MAX_FIELD_CHARS, "too long"),
    ],
)
def test_refused(value: str, problem: str) -> None:
    found = content_digest_problem(value, HELLO)
    assert found is not None
    assert problem in found


@given(body=st.binary(max_size=200), other=st.binary(max_size=200))
@pytest.mark.parametrize("algorithm", [hashlib.sha256, hashlib.sha512])
def test_a_digest_is_right_for_one_body_only(algorithm: Callable[..., object], body: bytes, other: bytes) -> None:
    digest = algorithm(body)
    value = http_sf.ser({f"sha-{digest.digest_size * 8}": digest.digest()})  # type: ignore[attr-defined]
    assert content_digest_problem(value, body) is None
    assert (content_digest_problem(value, other) is None) == (body == other)


@given(value=st.text(max_size=300))
def test_any_text_is_read_or_refused(value: str) -> None:
    problem = content_digest_problem(value, HELLO)
    assert problem is not None
    assert value not in problem or len(value) < 30


_KEYS = st.text("ab*-_.019", min_size=1, max_size=3).map(lambda text: f"*{text}")
_ITEMS = (
    st.text([chr(code) for code in range(0x20, 0x7F)], max_size=8)
    | st.binary(max_size=8)
    | st.booleans()
    | st.integers(-(10**15) + 1, 10**15 - 1)
)
_MEMBERS = st.tuples(st.lists(st.tuples(_ITEMS, st.just({})), max_size=3) | _ITEMS, st.dictionaries(_KEYS, _ITEMS))


@given(members=st.dictionaries(_KEYS, _MEMBERS, min_size=1, max_size=4))
def test_a_dictionary_is_read_as_it_was_written(members: dict[str, object]) -> None:
    text = http_sf.ser(members)  # type: ignore[arg-type]
    assert parse_dictionary(text) == members
    first = next(iter(members))
    assert parse_dictionary(f"{text}, {first}") is None


@given(pieces=st.lists(st.sampled_from([*'ab=,;:()"\\ \t?01@%-.*', "sha-256", "\x7f", "é"]), max_size=25))
def test_text_near_the_grammar_is_read_or_refused(pieces: list[str]) -> None:
    parsed = parse_dictionary("".join(pieces))
    assert parsed is None or all(len(member) == 2 for member in parsed.values())
