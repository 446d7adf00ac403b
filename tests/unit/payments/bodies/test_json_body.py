"""One reading of a body: what is refused and why, and that nothing but BodyError ever comes out."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.bodies.errors import BodyError, BodyErrorKind
from paymesh.payments.bodies.json_body import MISSING, lookup, parse_json
from paymesh.payments.bodies.limits import BodyLimits

KIND = BodyErrorKind


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", KIND.NOT_JSON),
        (b"{", KIND.NOT_JSON),
        (b"{'a':1}", KIND.NOT_JSON),
        (b'{"a":1,}', KIND.NOT_JSON),
        (b'{"a":"\n"}', KIND.NOT_JSON),
        (b'{"a":"\\x"}', KIND.NOT_JSON),
        ('{"a":１}'.encode(), KIND.NOT_JSON),
        (b'{"a":1}\x0b', KIND.TRAILING_DATA),
        (b'{"a":1}{"a":2}', KIND.TRAILING_DATA),
        (b"01", KIND.TRAILING_DATA),
        (b'{"a":1,"a":1}', KIND.DUPLICATE_KEY),
        (b'{"amount":1,"\\u0061mount":2}', KIND.DUPLICATE_KEY),
        (b'{"a":[{"b":{"c":1,"c":2}}]}', KIND.DUPLICATE_KEY),
        (b"\xef\xbb\xbf{}", KIND.ENCODING),
        ('{"a":1}'.encode("utf-16"), KIND.ENCODING),
        ('{"a":"支付"}'.encode("gbk"), KIND.ENCODING),
        (b'{"a":"\xed\xa0\x80"}', KIND.ENCODING),
        (b'{"a":"\\ud800"}', KIND.SURROGATE),
        (b'{"\\uDFFF":1}', KIND.SURROGATE),
        (b'{"a":[["\\ude00\\ud83d"]]}', KIND.SURROGATE),
        (b'{"a":NaN}', KIND.NUMBER),
        (b'{"a":-Infinity}', KIND.NUMBER),
        (b'{"a":' + b"9" * 5000 + b"}", KIND.NUMBER),
        (b'{"a":1e309}', KIND.NUMBER),
        (b'{"a":1e99999999999999999999}', KIND.NUMBER),
        (b"[" * 33 + b"]" * 33, KIND.DEPTH),
        (b"[" * 200_000 + b"]" * 200_000, KIND.DEPTH),
        (b'{"a":' * 200_000, KIND.DEPTH),
        (b"[" + b"1," * 10_000 + b"1]", KIND.MEMBERS),
        (b" " * (1 << 20) + b"{}", KIND.SIZE),
    ],
)
def test_refused(body: bytes, kind: BodyErrorKind) -> None:
    with pytest.raises(BodyError) as raised:
        parse_json(body)
    assert raised.value.kind is kind


@pytest.mark.parametrize(
    "body",
    [
        b' {"a" :\t1,\r\n"b":[1.50,true,null,"\\u5143\\/ \xe5\x85\x83"]} ',
        b'{"a":"\\ud83d\\ude00","b":"\\\\ud800"}',
        b"[" * 32 + b"]" * 32,
        b'"{[{[{[{[{[{[{[{[{[{[{[{[{[{[{[{[{["',
        b'{"a":' + b"9" * 100 + b"}",
    ],
)
def test_read_as_json_reads_it(body: bytes) -> None:
    document = parse_json(body)
    assert document.text == body.decode()
    assert document.value == json.loads(body, parse_float=Decimal)


def test_a_bracket_in_a_string_is_no_depth_and_a_comma_no_member() -> None:
    assert parse_json(json.dumps({"a": "[{" * 100 + "," * 20_000}).encode(), BodyLimits()).value


def test_only_an_object_when_asked() -> None:
    with pytest.raises(BodyError) as raised:
        parse_json(b"[1]", object_only=True)
    assert raised.value.kind is KIND.NOT_OBJECT
    assert parse_json(b"{}", object_only=True).value == {}


def test_an_error_holds_nothing_of_the_body() -> None:
    for body in (b'{"s3cret":"s3cret","s3cret":1}', b'{"s3cret":\xff}', b'{"s3cret" "s3cret"}', b'"s3cret" s3cret'):
        with pytest.raises(BodyError) as raised:
            parse_json(body)
        assert "s3cret" not in repr(raised.value)
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        (("a", "b"), 1),
        (("a", "none"), None),
        (("a", "missing"), MISSING),
        (("a", "b", "c"), MISSING),
        (("list", "1"), "y"),
        (("list", "2"), MISSING),
        (("list", "01"), MISSING),
        (("list", "-"), MISSING),
        (("list", "-1"), MISSING),
        (("list", "١"), MISSING),
        (("0",), "name"),
        (("text", "0"), MISSING),
        (("",), "empty"),
    ],
)
def test_lookup(pointer: tuple[str, ...], found: object) -> None:
    value = {"a": {"b": 1, "none": None}, "list": ["x", "y"], "0": "name", "text": "abc", "": "empty"}
    assert lookup(value, pointer) == found


JSONISH = st.text(alphabet='{}[]",:\\u0dD8fF9eE+-.1truenlNaI \n\x00é').map(lambda text: text.encode())


@given(st.one_of(st.binary(max_size=200), JSONISH, st.text(max_size=100).map(lambda t: t.encode("utf-8", "ignore"))))
def test_nothing_but_a_body_error(body: bytes) -> None:
    try:
        document = parse_json(body)
    except BodyError:
        return
    assert json.loads(body, parse_float=Decimal) == document.value
