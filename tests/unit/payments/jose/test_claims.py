"""Claims: for us, from them, now; and nothing that is no date."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.jose.claims import Claims, ClaimsProblem, check_claims

NOW = 1_800_000_000
ISSUER = "https://id.example"
AUDIENCES = ("paymesh", "other-name")


def payload(**changes: object) -> bytes:
    whole = {"iss": ISSUER, "aud": "paymesh", "sub": "u-1", "iat": NOW - 10, "exp": NOW + 300, **changes}
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def check(content: bytes, **options: int) -> Claims | ClaimsProblem:
    return check_claims(content, ISSUER, AUDIENCES, NOW, **options)  # type: ignore[arg-type]


def test_a_good_token() -> None:
    found = check(payload(scope="pay refund", nickname="x"))
    assert isinstance(found, Claims)
    assert (found.subject, found.scopes, found.expires_at_s) == ("u-1", {"pay", "refund"}, NOW + 300)
    assert found.claims["nickname"] == "x"


@pytest.mark.parametrize("name", ["exp", "iat", "iss", "aud", "sub"])
@pytest.mark.parametrize("value", [..., None])
def test_a_required_claim(name: str, value: object) -> None:
    assert check(payload(**{name: value})) == ClaimsProblem(f"the token has no {name}")


@pytest.mark.parametrize("aud", ["paymesh", ["paymesh"], ["x", "other-name"]])
def test_audiences_that_are_ours(aud: object) -> None:
    assert isinstance(check(payload(aud=aud)), Claims)


@pytest.mark.parametrize("aud", ["", "Paymesh", "paymesh ", [], [["paymesh"]], ["paymesh", 1], {"paymesh": 1}, 1, True])
def test_audiences_that_are_not(aud: object) -> None:
    assert isinstance(check(payload(aud=aud)), ClaimsProblem)


@pytest.mark.parametrize("iss", ["https://id.example/", "HTTPS://id.example", "", ["https://id.example"], 1])
def test_another_issuer(iss: object) -> None:
    assert isinstance(check(payload(iss=iss)), ClaimsProblem)


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", [True, "1800000300", "", [], {}, -1, 2**60, 1e300])
def test_what_is_no_date(name: str, value: object) -> None:
    assert check(payload(**{name: value})) == ClaimsProblem(f"the token's {name} is no date")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1" * 200])
def test_numbers_that_are_none(number: bytes) -> None:
    content = payload().replace(str(NOW + 300).encode(), number)
    assert isinstance(check(content), ClaimsProblem)


@pytest.mark.parametrize(
    ("changes", "leeway_s", "good"),
    [
        ({"exp": NOW}, 0, False),
        ({"exp": NOW + 1}, 0, True),
        ({"exp": NOW + 0.5}, 0, True),
        ({"exp": NOW - 30}, 30, False),
        ({"exp": NOW - 29}, 30, True),
        ({"iat": NOW + 30}, 30, True),
        ({"iat": NOW + 31}, 30, False),
        ({"iat": NOW + 30.5}, 30, False),
        ({"nbf": NOW}, 0, True),
        ({"nbf": NOW + 1}, 0, False),
        ({"nbf": NOW + 30}, 30, True),
        ({"nbf": NOW + 31}, 30, False),
    ],
)
def test_the_clock_with_leeway(changes: dict[str, object], leeway_s: int, good: bool) -> None:
    assert isinstance(check(payload(**changes), leeway_s=leeway_s), Claims) is good


def test_a_lifetime_may_have_an_end() -> None:
    assert isinstance(check(payload(), max_lifetime_s=310), Claims)
    assert isinstance(check(payload(), max_lifetime_s=309), ClaimsProblem)


@pytest.mark.parametrize(
    ("changes", "scopes"),
    [
        ({}, set()),
        ({"scope": ""}, set()),
        ({"scp": ["a", "b"]}, {"a", "b"}),
        ({"scp": "a b"}, {"a", "b"}),
        ({"scope": "a", "scp": ["b"]}, {"a"}),
    ],
)
def test_scopes(changes: dict[str, object], scopes: set[str]) -> None:
    found = check(payload(**changes))
    assert isinstance(found, Claims)
    assert found.scopes == scopes


@pytest.mark.parametrize("changes", [{"scope": 1}, {"scp": ["a", 1]}, {"scp": {}}, {"sub": 7}, {"sub": ""}])
def test_claims_of_the_wrong_type(changes: dict[str, object]) -> None:
    assert isinstance(check(payload(**changes)), ClaimsProblem)


def test_a_long_subject() -> None:
    assert isinstance(check(payload(sub="s" * 255)), Claims)
    assert isinstance(check(payload(sub="s" * 256)), ClaimsProblem)


def test_a_token_that_is_bound_to_a_key() -> None:
    found = check(payload(cnf={"jkt": "x"}))
    assert isinstance(found, ClaimsProblem)
    assert "cnf" in found.detail


def test_a_claim_twice() -> None:
    assert isinstance(check(payload()[:-1] + b', "sub": "other"}'), ClaimsProblem)


@pytest.mark.parametrize(("leeway_s", "audiences"), [(61, AUDIENCES), (-1, AUDIENCES), (0, ())])
def test_the_callers_own_mistakes(leeway_s: int, audiences: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="leeway"):
        check_claims(payload(), ISSUER, audiences, NOW, leeway_s=leeway_s)


@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    assert isinstance(check(content), ClaimsProblem)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["iss", "aud", "sub", "iat", "exp", "nbf", "scope", "scp", "cnf"])


@given(st.dictionaries(NAMES, VALUES))
def test_any_claims(changes: dict[str, object]) -> None:
    found = check(payload(**changes), leeway_s=30)
    if isinstance(found, Claims):
        assert found.subject
        assert found.expires_at_s is not None
        assert found.expires_at_s > NOW - 31
