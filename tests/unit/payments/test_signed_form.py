"""Reading the parameters of form protocols: every spelling of one text, and no text that has two readings."""

from __future__ import annotations

import itertools
from urllib.parse import parse_qsl, quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from paymesh.payments.request import RepeatedHeader, Request
from paymesh.payments.signed_form import (
    MAX_PARAMETERS,
    FormError,
    as_text,
    carries_form,
    check_one_reading,
    deciding,
    is_form,
    joined,
    merged_parameters,
    parse_parameters,
)

FORM = "application/x-www-form-urlencoded"


def sent(target: str = "/", body: bytes = b"", content_type: str | tuple[str, ...] = FORM) -> Request:
    values = (content_type,) if isinstance(content_type, str) else content_type
    return Request("POST", target, {"content-type": values} if values else {}, body, "id-1")


# -- parse_parameters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (b"", {}),
        (b"a=1&b=2", {"a": b"1", "b": b"2"}),
        (b"a=", {"a": b""}),
        (b"a=1=2", {"a": b"1=2"}),
        (b"a=b+c%20d%2Be", {"a": b"b c d+e"}),
        (b"a=%e4%B8%ad", {"a": "中".encode()}),
        (b"a=\xe4\xb8\xad", {"a": "中".encode()}),
        (b"a=%00%FF", {"a": b"\x00\xff"}),
        (b"%61=1", {"a": b"1"}),
        (b"a=1&&b=2&", {"a": b"1", "b": b"2"}),
        (b"a=1;b=2", {"a": b"1;b=2"}),
        (b"a=1?b", {"a": b"1?b"}),
        (b"a=%2526", {"a": b"%26"}),
        (b"A=1&b=2", {"A": b"1", "b": b"2"}),
    ],
)
def test_parameters(encoded: bytes, expected: dict[str, bytes]) -> None:
    assert parse_parameters(encoded) == expected


@pytest.mark.parametrize(
    ("encoded", "why"),
    [
        (b"a", "no value"),
        (b"=1", "no value, or a name"),
        (b"a b=1", "a name"),
        (b"a%00=1", "a name"),
        (b"a[]=1", "a name"),
        (b"1a=1", "a name"),
        (b"a" * 65 + b"=1", "a name"),
        ("é=1".encode(), "a name"),
        (b"a=1&a=1", "a came twice"),
        (b"a=1&%61=2", "a came twice"),
        (b"A=1&a=2", "in case"),
        (b"a=%", "broken"),
        (b"a=%4", "broken"),
        (b"a=%zz", "broken"),
        (b"a=%u4e2d", "broken"),
        (b"%=1", "broken"),
        (b"&".join(b"x%d=1" % number for number in range(MAX_PARAMETERS + 1)), "more than 200"),
        (b"&" * (MAX_PARAMETERS + 1), "more than 200"),
    ],
)
def test_what_two_readers_could_take_differently(encoded: bytes, why: str) -> None:
    with pytest.raises(FormError, match=why):
        parse_parameters(encoded)


def test_as_many_as_may_be() -> None:
    assert len(parse_parameters(b"&".join(b"x%d=" % number for number in range(MAX_PARAMETERS)))) == MAX_PARAMETERS


NAMES = st.from_regex(r"\A[A-Za-z][A-Za-z0-9_.-]{0,9}\Z")
VALUES = st.binary(max_size=20)


@given(parameters=st.dictionaries(NAMES, VALUES, max_size=8), data=st.data())
def test_every_encoders_spelling_is_read(parameters: dict[str, bytes], data: st.DataObject) -> None:
    def spelled(value: bytes) -> str:
        return data.draw(
            st.sampled_from(
                [
                    quote_plus(value),
                    quote(value),
                    quote(value, safe=""),
                    quote(value, safe="/:@!$'()*,;?~"),
                    "".join(f"%{byte:02X}" for byte in value),
                    "".join(f"%{byte:02x}" for byte in value),
                ]
            )
        )

    assume(len({name.lower() for name in parameters}) == len(parameters))
    encoded = "&".join(f"{name}={spelled(value)}" for name, value in parameters.items())
    assert parse_parameters(encoded.encode()) == parameters


@given(encoded=st.binary(max_size=60) | st.text("ab=&%+;41fF \0é", max_size=30).map(str.encode))
def test_anything_is_refused_or_read_as_the_standard_library_reads_it(encoded: bytes) -> None:
    try:
        found = parse_parameters(encoded)
    except FormError:
        return
    pairs = parse_qsl(encoded.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    assert {name: value.encode("latin-1") for name, value in pairs} == found
    assert len(pairs) == len(found)


# -- query and body ----------------------------------------------------------------------------------------------------


def test_query_and_body_are_one() -> None:
    assert merged_parameters(sent("/?a=1&b=2", b"c=3")) == {"a": b"1", "b": b"2", "c": b"3"}
    assert merged_parameters(sent("/?a=%31", b"a=1")) == {"a": b"1"}
    assert merged_parameters(sent("/?a=1", b"", "text/plain")) == {"a": b"1"}
    with pytest.raises(FormError, match="a differs"):
        merged_parameters(sent("/?a=1", b"a=2"))
    with pytest.raises(FormError, match="a differs"):
        merged_parameters(sent("/?a=1", b"a="))
    with pytest.raises(FormError, match="not application"):
        merged_parameters(sent("/?a=1", b"a=1", "text/plain"))
    with pytest.raises(FormError, match="not application"):
        merged_parameters(sent("/?a=1", b"a=1", ()))
    with pytest.raises(RepeatedHeader):
        merged_parameters(sent("/?a=1", b"a=1", (FORM, FORM)))


@given(query=st.text(max_size=30), body=st.binary(max_size=30), content_type=st.sampled_from(["", FORM, "a/b"]))
def test_any_request(query: str, body: bytes, content_type: str) -> None:
    try:
        merged_parameters(sent(f"/?{query}", body, content_type))
    except FormError:
        return


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (FORM, True),
        (f"{FORM};charset=gbk", True),
        (f" {FORM} ; charset=utf-8", True),
        (FORM.upper(), True),
        (f"{FORM}x", False),
        ("multipart/form-data", False),
        (f"text/plain; {FORM}", False),
        ("", False),
    ],
)
def test_forms(content_type: str, expected: bool) -> None:
    assert is_form(sent("/", b"a=1", content_type)) is expected
    assert carries_form(sent("/", b"a=1", content_type)) is expected
    assert not is_form(sent("/", b"", content_type))
    assert not carries_form(sent("/", b"", content_type))


def test_a_content_type_that_comes_twice() -> None:
    twice = sent("/", b"a=1", ("text/plain", FORM))
    assert carries_form(twice)
    with pytest.raises(RepeatedHeader):
        is_form(twice)


# -- text --------------------------------------------------------------------------------------------------------------


def test_the_text_to_sign() -> None:
    parameters = {"b": b"2", "a": b"1", "B": b"3", "empty": b"", "sign": b"s"}
    assert joined(parameters, frozenset({"sign"})) == b"B=3&a=1&b=2"
    assert joined(parameters, frozenset({"sign"}), keep_empty=True) == b"B=3&a=1&b=2&empty="
    assert joined({"a": b"x&y=z"}, frozenset()) == b"a=x&y=z"
    assert joined({}, frozenset()) == b""


@pytest.mark.parametrize(
    ("charset", "codec"), [("utf-8", "utf-8"), ("UTF8", "utf-8"), ("GBK", "gbk"), ("gb2312", "gbk"), ("Gbk", "gbk")]
)
def test_text_in_its_charset(charset: str, codec: str) -> None:
    assert as_text({"a": "测试".encode(codec), "b": b""}, charset) == {"a": "测试"}


def test_text_that_is_not_in_its_charset() -> None:
    for value, charset in ((b"\xff", "utf-8"), (b"\xed\xa0\x80", "utf-8"), (b"\x81", "gbk"), ("é".encode(), "gbk1")):
        with pytest.raises(FormError):
            as_text({"a": value}, charset)
    for charset in ("utf-16", "utf-7", "latin-1", "", "utf_8", "rot13"):
        with pytest.raises(FormError, match="neither utf-8 nor gbk"):
            as_text({"a": b"1"}, charset)


# -- one reading -------------------------------------------------------------------------------------------------------

ORDER = deciding("orderId", "txnAmt")


def readable(parameters: dict[str, bytes]) -> bool:
    try:
        check_one_reading(joined(parameters, frozenset(), keep_empty=True), parameters, ORDER)
    except FormError:
        return False
    return True


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"orderId": b"1", "txnAmt": b"100"}, True),
        ({"orderId": b"1"}, True),
        ({}, True),
        ({"subject": "测试 100%+商品&A=1".encode(), "orderId": b"1"}, True),
        ({"backUrl": b"https://m/back?a=1&b=2", "orderId": b"1"}, True),
        ({"frontUrl": b"https://m/front?a=1&orderId=1", "orderId": b"1"}, True),  # says the same
        ({"frontUrl": b"https://m/front?orderId=2", "orderId": b"1"}, True),  # no cut makes `?orderId` a name
        ({"frontUrl": b"https://m/front?a=1&xorderId=2&orderIdx=2", "orderId": b"1"}, True),
        ({"orderDesc": b"x&orderId=2&p=", "orderId": b"1"}, False),
        ({"orderDesc": b"x&orderId=", "orderId": b"1"}, False),
        ({"orderId": b"1&payTimeout=2"}, False),
        ({"orderId": b"1&"}, False),
        ({"orderId": b"2", "p": b"&orderId=1"}, False),
        ({"orderDesc": b"x&orderId=1"}, False),  # swallowed
        ({"subject": b"x&txnAmt=1", "txnAmt": b"1000"}, False),
        ({"subject": b"x&txnAmt=1000", "txnAmt": b"1000"}, True),
    ],
)
def test_one_reading(parameters: dict[str, bytes], expected: bool) -> None:
    assert readable(parameters) is expected


PIECES = st.lists(
    st.sampled_from([b"1", b"2", b"&orderId=1", b"&orderId=2", b"&txnAmt=1", b"&p=", b"&a=", b"&z=", b"&", b"="]),
    max_size=4,
).map(b"".join)


@given(
    parameters=st.dictionaries(
        st.sampled_from(["a", "orderDesc", "orderId", "p", "txnAmt", "z"]), PIECES, min_size=1, max_size=5
    )
)
def test_no_cut_of_an_accepted_text_decides_anything_else(parameters: dict[str, bytes]) -> None:
    """Whoever cuts a signed text elsewhere gets either the same order and amount, or a refusal."""
    assume(readable(parameters))
    text = joined(parameters, frozenset(), keep_empty=True)
    parts = text.split(b"&")
    assume(len(parts) <= 9)
    for ends in itertools.product((False, True), repeat=len(parts) - 1):
        cut = [parts[0]]
        for end, part in zip(ends, parts[1:], strict=True):
            if end:
                cut.append(part)
            else:
                cut[-1] += b"&" + part
        other = {name.decode(): value for name, _, value in (one.partition(b"=") for one in cut)}
        names = [one.partition(b"=")[0].decode() for one in cut]
        if names != sorted(set(names)) or joined(other, frozenset(), keep_empty=True) != text or not readable(other):
            continue
        assert [other.get(name) for name in ("orderId", "txnAmt")] == [
            parameters.get(name) for name in ("orderId", "txnAmt")
        ]
