"""Sanitise rules on a body: what changes, what never does, in every format."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.json_body import parse_json
from paymesh.payments.bodies.limits import DEFAULT_READING, Format, Reading
from paymesh.payments.fields.keyed_values import decrypt
from paymesh.payments.fields.sanitize import Sanitized, sanitize_body
from paymesh.payments.policy.field_rules import Detector, MaskKind, SanitizeAction, SanitizeRule
from tests.unit.payments.fields.rings import NOW_S, PII

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
FORMS = Reading(frozenset({Format.FORM}), embedded=frozenset({("biz_content",)}), charset_parameter="charset")
EVERY_DETECTOR = frozenset(Detector)


def sanitized(
    body: bytes | str, *rules: SanitizeRule, type_: str = JSON, reading: Reading = DEFAULT_READING
) -> Sanitized:
    return sanitize_body(body if isinstance(body, bytes) else body.encode(), type_, reading, rules, NOW_S)


def masked(*field: str, kind: MaskKind = MaskKind.ALL) -> SanitizeRule:
    return SanitizeRule(SanitizeAction.MASK, field, kind=kind)


def dropped(*field: str) -> SanitizeRule:
    return SanitizeRule(SanitizeAction.DROP, field)


def hashed(*field: str) -> SanitizeRule:
    return SanitizeRule(SanitizeAction.HASH, field, keys=PII)


def detected(*field: str, action: SanitizeAction = SanitizeAction.MASK) -> SanitizeRule:
    keys = PII if action in (SanitizeAction.HASH, SanitizeAction.ENCRYPT) else None
    return SanitizeRule(action, field or None, detect=EVERY_DETECTOR, keys=keys)


PHONE = masked("payer", "phone", kind=MaskKind.PHONE)


@pytest.mark.parametrize(
    ("body", "rules", "expected"),
    [
        ('{"payer": {"phone":"13812341234"}, "n":1.0}', (PHONE,), '{"payer": {"phone":"138****1234"}, "n":1.0}'),
        ('{"payer":{"phone":13812341234}}', (PHONE,), '{"payer":{"phone":"138****1234"}}'),
        ('{"payer":{"phone":1.3812341234E10}}', (PHONE,), '{"payer":{"phone":"138****1234"}}'),
        ('{"payer":{"phone":true}}', (PHONE,), '{"payer":{"phone":"***"}}'),
        ('{"payer":{"phone":["13812341234"]}}', (PHONE,), '{"payer":{"phone":"***"}}'),
        ('{"payer":{"phone":{"x":1}}}', (PHONE,), '{"payer":{"phone":"***"}}'),
        ('{"a":"x","b":"y"}', (dropped("a"), masked("b")), '{"b":"***"}'),
        ('{"a":["x","y"]}', (dropped("a", "0"),), '{"a":[null,"y"]}'),
        ('{"a":{"b":"x"}}', (masked("a", "b"), dropped("a")), "{}"),
        ('{"a":"x"}', (masked("a"), dropped("a")), '{"a":"***"}'),
        ('{"a":null}', (dropped("a"),), "{}"),
        ('{"a":"张三李四"}', (SanitizeRule(SanitizeAction.TRUNCATE, ("a",), keep=2),), '{"a":"张三"}'),
        ('{"a":[{"p":"1"},{"q":2},{"p":"3"}]}', (masked("a", "*", "p"),), '{"a":[{"p":"***"},{"q":2},{"p":"***"}]}'),
        ('{"a":{"p":"1"}}', (masked("a", "*", "p"),), '{"a":{"p":"1"}}'),
        (
            '{"memo":"电话13812341234谢谢","n":[6222020000000000000]}',
            (detected(),),
            '{"memo":"电话138****1234谢谢","n":["622202*********0000"]}',
        ),
        ('{"memo":"13812341234","b":"13812341234"}', (detected("memo"),), '{"memo":"138****1234","b":"13812341234"}'),
        ('{"memo":"tel \\u0031３8 1234-1234\\n"}', (detected(),), '{"memo":"tel 138****1234\\n"}'),
        ('{"a":"x 13812341234","b":"13812341234"}', (masked("b"), detected()), '{"a":"x 138****1234","b":"***"}'),
        ('{"memo":"a 13812341234 b"}', (detected(action=SanitizeAction.DROP),), '{"memo":"a  b"}'),
    ],
)  # fmt: skip
def test_rules(body: str, rules: tuple[SanitizeRule, ...], expected: str) -> None:
    assert sanitized(body, *rules).body.decode() == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"payer":null}',
        b'{"payer":{"phone":null}}',
        b'{"payer":"13812341234"}',
        b'{"payer":{"phone":"138\\u002a***1234"}}',
        b'{"payer":[{"phone":"13812341234"}]}',
    ],
)
def test_nothing_to_do_is_the_same_object(body: bytes) -> None:
    result = sanitized(body, PHONE)
    assert result.body is body
    assert result.changed == ()


def test_what_changed_is_named_by_the_policy_and_holds_no_value() -> None:
    rules = (masked("a/b"), hashed("c"), dropped("missing"), detected("memo"))
    changed = sanitized(
        b'{"a/b":"13812341234","c":5,"memo":{"13900001111":"13812341234, 13812341235"}}', *rules
    ).changed
    assert [str(change) for change in changed] == [
        "mask /a~1b",
        "hash /c",
        "mask bank_account+email+pan+phone+resident_id /memo x2",
    ]


def test_a_hash_is_of_the_text_whatever_its_escapes_and_type() -> None:
    bodies = (b'{"a":"12"}', b'{"a":"\\u00312"}', b'{"a":12}')
    results = {json.loads(sanitized(body, hashed("a")).body)["a"] for body in bodies}
    assert len(results) == 1
    assert results.pop().startswith("hk:k1:")


def test_a_number_that_is_found_has_one_hash_however_it_is_written() -> None:
    memos = ("13812341234", "138 1234 1234", "138-1234-1234", "１３８１２３４１２３４")
    rule = detected(action=SanitizeAction.HASH)
    assert len({sanitized(json.dumps({"memo": memo}), rule).body for memo in memos}) == 1


def test_what_is_encrypted_can_be_read_again() -> None:
    rule = SanitizeRule(SanitizeAction.ENCRYPT, ("payer", "name"), keys=PII)
    hidden = json.loads(sanitized('{"payer":{"name":"张三"}}', rule).body)["payer"]["name"]
    assert decrypt(PII.by_id, hidden) == "张三"


def test_fields_that_were_decided_on_are_spared_by_detectors() -> None:
    rule = SanitizeRule(SanitizeAction.MASK, detect=EVERY_DETECTOR, spares=frozenset({("order_no",)}))
    body = sanitized('{"order_no":"13812341234","memo":"13812341234"}', rule).body
    assert json.loads(body) == {"order_no": "13812341234", "memo": "138****1234"}


@pytest.mark.parametrize("charset", ["utf-8", "gbk"])
def test_an_embedded_document_in_a_form_changes_in_its_spans_alone(charset: str) -> None:
    name = quote_plus("张三", encoding=charset)
    content = quote_plus('{"buyer": {"phone":"13812341234"}, "memo":"电话１3812341234号"}', encoding=charset)
    body = f"z=1&charset={charset}&name={name}&biz_content={content}&a=%7e+%7E"
    rules = (masked("biz_content", "buyer", "phone", kind=MaskKind.PHONE), detected())
    after = sanitized(body, *rules, type_=FORM, reading=FORMS).body.decode()
    head, tail = f"z=1&charset={charset}&name={name}&biz_content=", "&a=%7e+%7E"
    assert after.startswith(head)
    assert after.endswith(tail)
    assert quote_plus('"}, "memo":"电话', encoding=charset) in after
    content = parse_qs(after, encoding=charset, strict_parsing=True)["biz_content"][0]
    assert content == '{"buyer": {"phone":"138****1234"}, "memo":"电话138****1234号"}'
    assert sanitized(after, *rules, type_=FORM, reading=FORMS).body == after.encode()


@pytest.mark.parametrize("body", [b'{"a":1,"a":2}', b"\xff", b"{", b'{"a":NaN}'])
def test_a_body_that_is_no_acceptable_document_is_an_error(body: bytes) -> None:
    with pytest.raises(BodyError):
        sanitized(body, PHONE)


FIELDS = st.lists(st.sampled_from(["a", "b", "0", "1", "*"]), min_size=1, max_size=3).map(tuple)
RULES = st.one_of(
    st.builds(
        SanitizeRule,
        st.sampled_from([SanitizeAction.DROP, SanitizeAction.MASK]),
        FIELDS,
        kind=st.sampled_from(MaskKind),
    ),
    st.builds(SanitizeRule, st.just(SanitizeAction.TRUNCATE), FIELDS, keep=st.integers(0, 12)),
    st.builds(SanitizeRule, st.sampled_from([SanitizeAction.HASH, SanitizeAction.ENCRYPT]), FIELDS, keys=st.just(PII)),
    st.builds(
        SanitizeRule,
        st.just(SanitizeAction.MASK),
        st.none() | FIELDS,
        detect=st.frozensets(st.sampled_from(Detector), min_size=1),
    ),
)
VALUES = [
    "13812341234",
    "x",
    "6222020000000000",
    "11010519491231002X",
    "a@b.example",
    "账号 1234 5678 9012",
    "电话138 1234 1234",
]
SCALARS = st.one_of(st.none(), st.integers(), st.booleans(), st.sampled_from(VALUES))
BODIES = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
        ),
        max_leaves=8,
    ),
)  # fmt: skip


@given(BODIES, st.lists(RULES, max_size=4).map(tuple), st.sampled_from([None, 2, "\t"]), st.booleans())
def test_sanitising_twice_is_sanitising_once(
    value: dict[str, object], rules: tuple[SanitizeRule, ...], indent: int | str | None, ascii_: bool
) -> None:
    once = sanitized(json.dumps(value, indent=indent, ensure_ascii=ascii_), *rules)
    assert sanitized(once.body, *rules).body is once.body
    parse_json(once.body)
