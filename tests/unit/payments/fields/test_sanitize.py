"""Sanitise rules on a body: what changes, what never does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.json_body import parse_json
from paymesh.payments.fields.sanitize import sanitize_json
from paymesh.payments.policy.compiled import HashKey, MaskKind, SanitizeAction, SanitizeRule
from paymesh.payments.secrets import Secret

KEY = HashKey("k1", Secret(b"0123456789abcdef"))


def masked(*field: str, kind: MaskKind = MaskKind.ALL) -> SanitizeRule:
    return SanitizeRule(field, SanitizeAction.MASK, kind)


def dropped(*field: str) -> SanitizeRule:
    return SanitizeRule(field, SanitizeAction.DROP)


def hashed(*field: str) -> SanitizeRule:
    return SanitizeRule(field, SanitizeAction.HASH, hash_key=KEY)


PHONE = masked("payer", "phone", kind=MaskKind.PHONE)


@pytest.mark.parametrize(
    ("body", "rules", "expected"),
    [
        ('{"payer": {"phone":"13812341234"}, "n":1.0}', (PHONE,), '{"payer": {"phone":"138****1234"}, "n":1.0}'),
        ('{"payer":{"phone":13812341234}}', (PHONE,), '{"payer":{"phone":"138****1234"}}'),
        ('{"payer":{"phone":1.3812341234E10}}', (PHONE,), '{"payer":{"phone":"***"}}'),
        ('{"payer":{"phone":true}}', (PHONE,), '{"payer":{"phone":"***"}}'),
        ('{"payer":{"phone":["13812341234"]}}', (PHONE,), '{"payer":{"phone":"***"}}'),
        ('{"payer":{"phone":{"x":1}}}', (hashed("payer", "phone"),), '{"payer":{"phone":"***"}}'),
        ('{"a":"x","b":"y"}', (dropped("a"), masked("b")), '{"b":"***"}'),
        ('{"a":["x","y"]}', (dropped("a", "0"),), '{"a":[null,"y"]}'),
        ('{"a":{"b":"x"}}', (masked("a", "b"), dropped("a")), "{}"),
        ('{"a":"x"}', (masked("a"), dropped("a")), '{"a":"***"}'),
        ('{"a":null}', (dropped("a"),), "{}"),
    ],
)
def test_rules(body: str, rules: tuple[SanitizeRule, ...], expected: str) -> None:
    assert sanitize_json(body.encode(), rules).body.decode() == expected


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"payer":null}',
        b'{"payer":{"phone":null}}',
        b'{"payer":"13812341234"}',
        b'{"payer":{"phone":"138\\u002a***1234"}}',
        b'{"payer":[{"phone":"13812341234"}]}',
    ],
)
def test_nothing_to_do_is_the_same_object(body: bytes) -> None:
    sanitized = sanitize_json(body, (PHONE,))
    assert sanitized.body is body
    assert sanitized.changed == ()


def test_what_changed_is_named_by_the_policy_and_holds_no_value() -> None:
    rules = (masked("a/b"), hashed("c"), dropped("missing"))
    changed = sanitize_json(b'{"a/b":"13812341234","c":5}', rules).changed
    assert [str(change) for change in changed] == ["mask /a~1b", "hash /c"]


def test_a_hash_is_of_the_text_whatever_its_escapes_and_type() -> None:
    bodies = (b'{"a":"12"}', b'{"a":"\\u00312"}', b'{"a":12}')
    results = {json.loads(sanitize_json(body, (hashed("a"),)).body)["a"] for body in bodies}
    assert len(results) == 1
    assert results.pop().startswith("hk:k1:")


@pytest.mark.parametrize("body", [b"", b"[]", b'"13812341234"', b'{"a":1,"a":2}', b"\xff"])
def test_a_body_that_is_no_acceptable_object_is_an_error(body: bytes) -> None:
    with pytest.raises(BodyError):
        sanitize_json(body, (PHONE,))


FIELDS = st.lists(st.sampled_from(["a", "b", "0", "1"]), min_size=1, max_size=3).map(tuple)
RULES = st.builds(
    SanitizeRule,
    FIELDS,
    st.sampled_from([SanitizeAction.DROP, SanitizeAction.MASK]),
    st.sampled_from(MaskKind),
)
SCALARS = st.one_of(st.none(), st.integers(), st.booleans(), st.sampled_from(["13812341234", "x", "6222020000000000"]))
BODIES = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
        ),
        max_leaves=8,
    ),
)


@given(BODIES, st.lists(RULES, max_size=4).map(tuple), st.sampled_from([None, 2, "\t"]))
def test_sanitising_twice_is_sanitising_once(
    value: dict[str, object], rules: tuple[SanitizeRule, ...], indent: int | str | None
) -> None:
    once = sanitize_json(json.dumps(value, indent=indent).encode(), rules)
    assert sanitize_json(once.body, rules).body is once.body
    parse_json(once.body)
