"""Bodies and queries of every format: one tree, refusals of their own kind, and edits that touch nothing else.

The properties know how each character was spelled, so what an edit must leave is known byte by byte, without reading.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import parse_qs, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.bodies.body import DROP, Edit, FilePart, Replace, Splice, read_body, read_query, written_as
from paymesh.payments.bodies.errors import BodyError, BodyErrorKind, body_denial
from paymesh.payments.bodies.json_body import MISSING, lookup, parse_json
from paymesh.payments.bodies.limits import BodyLimits, Format, Reading
from paymesh.payments.bodies.pointer import JsonPointer
from paymesh.payments.denial import Reason

KIND = BodyErrorKind
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=B"
EMBEDDED = frozenset({("biz_content",), ("outer",), ("outer", "inner")})
ALL = Reading(frozenset(Format), embedded=EMBEDDED, charset_parameter="charset")
ANSWERS = Reading(always=Format.JSON)


def part(name: str, content: bytes, *more: str, disposition: str = "") -> bytes:
    head = [f'Content-Disposition: form-data; name="{name}"{disposition}', *more]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


def parts(*all_parts: bytes) -> bytes:
    return b"".join(b"--B\r\n" + one + b"\r\n" for one in all_parts) + b"--B--\r\n"


def edited(body: bytes, type_: str, edits: Mapping[JsonPointer, Edit], reading: Reading = ALL) -> bytes:
    return read_body(body, type_, reading).edit(edits)


# -- which format ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        (JSON, (Format.JSON, "utf-8", b"")),
        ("application/vnd.x+json; charset=UTF-8", (Format.JSON, "utf-8", b"")),
        (FORM, (Format.FORM, None, b"")),
        (f"{FORM}; charset=GBK", (Format.FORM, "gbk", b"")),
        ('multipart/form-data; boundary="a b"', (Format.MULTIPART, "utf-8", b"a b")),
    ],
)
def test_format(type_: str, expected: tuple[Format, str | None, bytes]) -> None:
    assert tuple(written_as(type_, ALL)) == expected


@pytest.mark.parametrize(
    "type_",
    [
        None,
        "",
        "text/plain",
        f"{JSON}, {JSON}",
        f"{JSON}; charset=gbk",
        f'{JSON}; charset=""',
        f"{JSON}; charset=utf-8; charset=gbk",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary="ends in space "',
        "multipart/form-data; boundary=B; charset=gbk",
        "multipart/mixed; boundary=B",
    ],
)
def test_a_content_type_that_is_not_read(type_: str | None) -> None:
    with pytest.raises(BodyError) as raised:
        read_body(b"{}", type_, ALL)
    assert raised.value.kind is KIND.CONTENT_TYPE
    assert body_denial(raised.value).reason is Reason.CONTENT_UNSUPPORTED


def test_a_route_reads_its_own_formats_alone() -> None:
    with pytest.raises(BodyError) as raised:
        read_body(b"a=1", FORM, Reading())
    assert raised.value.kind is KIND.CONTENT_TYPE


@pytest.mark.parametrize("type_", [None, "text/html", "text/html;charset=gbk", "text/plain; charset=GB2312"])
def test_a_format_whatever_the_type_says(type_: str | None) -> None:
    codec = "utf-8" if type_ is None or "=" not in type_ else "gbk"
    body = read_body('{"a":"支付"}'.encode(codec), type_, ANSWERS)
    assert body.value == {"a": "支付"}
    assert body.edit({("a",): Splice(((1, 2, "票"),))}) == '{"a":"支票"}'.encode(codec)


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "type_", "value"),
    [
        (b'{"a":[1,1.50,"x",null,true]}', JSON, {"a": [1, 1.5, "x", None, True]}),
        (b'{"biz_content":" {\\"a\\":[1]} "}', JSON, {"biz_content": {"a": [1]}}),
        (b'{"biz_content":null,"outer":1}', JSON, None),
        (b'{"outer":"{\\"inner\\":\\"{\\\\\\"a\\\\\\":1}\\"}"}', JSON, {"outer": {"inner": {"a": 1}}}),
        (b"", FORM, {}),
        (b"&", FORM, {}),
        (b"a=1&b=&&c%5B%5D=x+%2B%20y%3D&", FORM, {"a": "1", "b": "", "c[]": "x + y="}),
        (b"a=%E6%94%AF\xe4\xbb\x98", FORM, {"a": "支付"}),
        (b"charset=gbk&a=%d6%A7", FORM, {"charset": "gbk", "a": "支"}),
        (b"a=%d6%A7", f"{FORM}; charset=gbk", {"a": "支"}),
        (b"biz_content=%7B%22a%22:%5B%5D%7D", FORM, {"biz_content": {"a": []}}),
        (b"--B--\r\n", MULTIPART, {}),
        (
            parts(part("a", "支\r\n".encode()), part("f", b"\xff\0", disposition='; filename="x"')),
            MULTIPART,
            {"a": "支\r\n", "f": FilePart(2)},
        ),
        (parts(part("a", b' {"b":1}', "Content-Type: application/json")), MULTIPART, {"a": {"b": 1}}),
        (parts(part("a", b'"x"', "content-type:application/x+json")), MULTIPART, {"a": "x"}),
        (parts(part("biz_content", b'{"b":1}')), MULTIPART, {"biz_content": {"b": 1}}),
        (parts(part("filename", b"1")), MULTIPART, {"filename": "1"}),
        (parts(part("a", b"1", disposition="; x=filename")), MULTIPART, {"a": "1"}),
        (parts(part("a", b"1", disposition='; filename=""')), MULTIPART, {"a": "1"}),
    ],
)
def test_values(body: bytes, type_: str, value: object) -> None:
    if value is None:  # nothing to read a document from
        with pytest.raises(BodyError) as raised:
            read_body(body, type_, ALL)
        assert raised.value.kind is KIND.NOT_JSON
        return
    read = read_body(body, type_, ALL)
    assert read.value == value
    assert read.edit({}) is body


def test_a_query() -> None:
    read = read_query("a=1&b&c=x+y&biz_content=%7B%22p%22%3A%221%22%7D", ALL)
    assert read.value == {"a": "1", "b": "", "c": "x y", "biz_content": {"p": "1"}}
    assert read.edit({("b",): Replace("* 2"), ("biz_content", "p"): Replace("3")}) == (
        b"a=1&b=*+2&c=x+y&biz_content=%7B%22p%22%3A%223%22%7D"
    )


def test_texts() -> None:
    body = b'{"a":["x",1,2.50,true,null,{"b":""}],"biz_content":"{\\"p\\":\\"138\\"}"}'
    assert list(read_body(body, JSON, ALL).texts()) == [
        (("a", "0"), "x"),
        (("a", "1"), "1"),
        (("a", "2"), "2.50"),
        (("a", "5", "b"), ""),
        (("biz_content", "p"), "138"),
    ]
    files = parts(part("a", b"1"), part("f", b"2", disposition='; filename="x"'))
    assert list(read_body(files, MULTIPART, ALL).texts()) == [(("a",), "1")]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "type_", "kind"),
    [
        (b"a=1", JSON, KIND.NOT_JSON),
        (b'{"a":1,"A":2}', JSON, KIND.DUPLICATE_KEY),
        ('{"ſ":1,"S":2}'.encode(), JSON, KIND.DUPLICATE_KEY),
        (b'{"x":{"pay_Amount":1,"pay_amount":2}}', JSON, KIND.DUPLICATE_KEY),
        (b'{"biz_content":"x"}', JSON, KIND.NOT_JSON),
        (b'{"biz_content":1}', JSON, KIND.NOT_JSON),
        (b'{"biz_content":"{\\"a\\":1,\\"a\\":2}"}', JSON, KIND.DUPLICATE_KEY),
        (b'{"biz_content":"{\\"a\\":NaN}"}', JSON, KIND.NUMBER),
        (b'{"biz_content":"{}{}"}', JSON, KIND.TRAILING_DATA),
        (b'{"biz_content":"{\\"a\\":\\"\\\\ud800\\"}"}', JSON, KIND.SURROGATE),
        (b'{"biz_content":"\\ufeff{}"}', JSON, KIND.ENCODING),
        (b'{"biz_content":"{\\"a\\":' + b"[" * 31 + b"]" * 31 + b'}"}', JSON, KIND.DEPTH),
        (b'{"outer":"{\\"inner\\":\\"x\\"}"}', JSON, KIND.NOT_JSON),
        (b'{"a":1}', FORM, KIND.FORM),
        (b'{"a":"b=1"}', FORM, KIND.FORM),
        (b"<a b='1'/>", FORM, KIND.FORM),
        (b"a", FORM, KIND.FORM),
        (b"=1", FORM, KIND.FORM),
        (b"a%00=1", FORM, KIND.FORM),
        (b"a=1&a=2", FORM, KIND.DUPLICATE_KEY),
        (b"a=1&%41=2", FORM, KIND.DUPLICATE_KEY),
        (b"a=%", FORM, KIND.ENCODING),
        (b"a=%4", FORM, KIND.ENCODING),
        (b"a=%4x", FORM, KIND.ENCODING),
        (b"%zz=1", FORM, KIND.ENCODING),
        (b"a=%ff", FORM, KIND.ENCODING),
        (b"a=%ed%a0%80", FORM, KIND.ENCODING),
        (b"%ff=1", FORM, KIND.ENCODING),
        (b"charset=gbk&a=%81", FORM, KIND.ENCODING),
        (b"charset=utf-16&a=1", FORM, KIND.CONTENT_TYPE),
        (b"a=1", f"{FORM}; charset=latin-1", KIND.CONTENT_TYPE),
        (b"charset=gbk&a=1", f"{FORM}; charset=utf-8", KIND.CONTENT_TYPE),
        (b"biz_content=x", FORM, KIND.NOT_JSON),
        (b"biz_content=%7B%22a%22%3A1%2C%22a%22%3A1%7D", FORM, KIND.DUPLICATE_KEY),
        (b"&".join(b"a%d=1" % number for number in range(10_001)), FORM, KIND.MEMBERS),
        (b"a=" + b"x" * (1 << 20), FORM, KIND.SIZE),
        (b"", MULTIPART, KIND.FORM),
        (b"{}", MULTIPART, KIND.FORM),
        (b"x" + parts(part("a", b"1")), MULTIPART, KIND.FORM),
        (parts(part("a", b"1")) + b"x", MULTIPART, KIND.FORM),
        (parts(part("a", b"1\n--B\n")), MULTIPART, KIND.FORM),
        (parts(part("a", b"1"), part("a", b"1")), MULTIPART, KIND.DUPLICATE_KEY),
        (parts(part("a", b"1"), part("A", b"1")), MULTIPART, KIND.DUPLICATE_KEY),
        (parts(part("a", b"\xff")), MULTIPART, KIND.ENCODING),
        (parts(part("a", b"{", "Content-Type: application/json")), MULTIPART, KIND.NOT_JSON),
        (parts(part("a", b"1", "Content-Type: text/plain; charset=utf-7")), MULTIPART, KIND.FORM),
        (parts(part("a", b"1", "Content-Type: text/plain, x")), MULTIPART, KIND.FORM),
        (parts(part("a", b"1", "Content-Type: a/b", "content-type: a/b")), MULTIPART, KIND.FORM),
        (parts(part("a", b"1", disposition="; filename*=utf-8''x")), MULTIPART, KIND.FORM),
        (parts(part("a", b"1", disposition="; filename=x")), MULTIPART, KIND.FORM),
        (parts(part("a", b"1", disposition='; Filename="x"')), MULTIPART, KIND.FORM),
        (parts(part("a", b"1", disposition='; filename="x\\"; y="')), MULTIPART, KIND.FORM),
        (parts(part("a", b"1", disposition='; filename="x"; filename="y"')), MULTIPART, KIND.FORM),
        (parts(part("a", b"1", disposition=' filename="x"')), MULTIPART, KIND.FORM),
    ],
)
def test_refused(body: bytes, type_: str, kind: BodyErrorKind) -> None:
    with pytest.raises(BodyError) as raised:
        read_body(body, type_, ALL)
    assert raised.value.kind is kind


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("a=1&a=2", KIND.DUPLICATE_KEY),
        ("a=%ff", KIND.ENCODING),
        ("a=%f", KIND.ENCODING),
        ("a=é", KIND.ENCODING),
        ("a=\udcff", KIND.ENCODING),
        ("%7B=1", KIND.FORM),
    ],
)
def test_a_query_that_is_refused(query: str, kind: BodyErrorKind) -> None:
    with pytest.raises(BodyError) as raised:
        read_query(query, ALL)
    assert raised.value.kind is kind


@pytest.mark.parametrize(
    ("body", "type_"),
    [
        (b'{"a":1,"biz_content":"{\\"x\\":[[1]]}"}', JSON),
        (b'a=1&biz_content={"x":[[1]]}', FORM),
        (parts(part("a", b"1"), part("biz_content", b'{"x":[[1]]}')), MULTIPART),
    ],
)
def test_an_embedded_document_counts_for_the_whole(body: bytes, type_: str) -> None:
    # Depth: two objects and two arrays; members: three names and two elements.
    def limited(depth: int, members: int) -> Reading:
        return Reading(frozenset(Format), BodyLimits(1 << 20, depth, members), EMBEDDED)

    read_body(body, type_, limited(4, 5))
    for reading, kind in ((limited(3, 5), KIND.DEPTH), (limited(4, 4), KIND.MEMBERS)):
        with pytest.raises(BodyError) as raised:
            read_body(body, type_, reading)
        assert raised.value.kind is kind


def test_an_error_holds_nothing_of_the_body() -> None:
    for body, type_ in (
        (b"s3cret=1&s3cret=2", FORM),
        (b"s3cret=%f", FORM),
        (b"s3cret", FORM),
        (b"s3cret=1&charset=s3cret", FORM),
        (b"a=1", f"{FORM}; charset=s3cret"),
        (b"biz_content=s3cret", FORM),
        (parts(part("s3cret", b"1"), part("s3cret", b"1")), MULTIPART),
        (parts(part("a", b"1", "s3cret")), MULTIPART),
        (b"s3cret", "s3cret/s3cret"),
    ):
        with pytest.raises(BodyError) as raised:
            read_body(body, type_, ALL)
        assert "s3cret" not in repr(raised.value)


ANY_TYPE = st.sampled_from([None, JSON, FORM, f"{FORM}; charset=gbk", MULTIPART, "multipart/form-data", "text/html"])
PIECES = st.lists(
    st.sampled_from(
        [b"--B", b"--", b"\r\n", b"=", b"&", b"%", b"%41", b"+", b"{}", b'"', b":", b",", b"\\u", b"\xd6\xa7"]
    )
    | st.sampled_from([b"biz_content", b"outer", b"charset=gbk", b'{"a":1}', b'\\"', part("a", b"1"), part("A", b"{}")])
    | st.binary(max_size=3),
    max_size=10,
).map(b"".join)


@given(PIECES | st.binary(max_size=80), ANY_TYPE, st.sampled_from([ALL, ANSWERS, Reading()]), st.booleans())
def test_nothing_but_a_body_error(body: bytes, type_: str | None, reading: Reading, object_only: bool) -> None:
    for candidate in (body, b"biz_content=" + body, b'{"outer":"' + body + b'"}', parts(part("x", body), body)):
        try:
            read = read_body(candidate, type_, reading, object_only=object_only)
        except BodyError:
            continue
        assert read.edit({}) is candidate
        for pointer, text in read.texts():
            found = lookup(read.value, pointer)
            assert found is not MISSING
            assert str(found) == text


@given(st.text(max_size=40) | st.text("ab=&%+41fF{}", max_size=20))
def test_any_query(query: str) -> None:
    try:
        read_query(query, ALL)
    except BodyError:
        return


# -- edits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "edits", "expected"),
    [
        (b'{"a" : 1, "b":"x"}', {("a",): Replace("*")}, b'{"a" : "*", "b":"x"}'),
        (b'{"a":"x"}', {("a",): Replace('"\\\n\x01\xe9')}, '{"a":"\\"\\\\\\n\\u0001é"}'.encode()),
        (b'{"a":[1,2,3]}', {("a", "1"): DROP}, b'{"a":[1,null,3]}'),
        (b'{"a":1,"b":2,"c":3}', {("a",): DROP, ("b",): DROP}, b'{"c":3}'),
        (b'{"a":{"b":"x"}}', {("a",): DROP, ("a", "b"): Replace("y")}, b"{}"),
        (b'{"a":13812341234}', {("a",): Splice(((3, 7, "****"),))}, b'{"a":"138****1234"}'),
        (b'{"a":true,"b":null,"c":{"d":1}}', {(n,): Splice(((0, 1, "*"),)) for n in "abc"}, None),
        (b'{"a":1}', {("b",): DROP, ("a", "0"): DROP, ("a", "b"): Replace("x")}, None),
        (b'{"a":"xyz"}', {("a",): Splice(((0, 0, "<"), (1, 2, ""), (3, 3, ">")))}, b'{"a":"<xz>"}'),
        (b'{"a":"\\u0041bc"}', {("a",): Splice(((0, 1, "A"),))}, b'{"a":"Abc"}'),
        (b'{"a":"x"}', {("a",): Splice(())}, None),
        (
            b'{"biz_content":"{\\"p\\": \\"\\\\u0031\\", \\"q\\":2}"}',
            {("biz_content", "p"): Replace('"'), ("biz_content", "q"): DROP},
            b'{"biz_content":"{\\"p\\": \\"\\\\\\"\\"}"}',
        ),
        (
            b'{"outer":"{\\"inner\\":\\"{\\\\\\"a\\\\\\":\\\\\\"138\\\\\\"}\\"}"}',
            {("outer", "inner", "a"): Splice(((1, 2, "*"),))},
            b'{"outer":"{\\"inner\\":\\"{\\\\\\"a\\\\\\":\\\\\\"1*8\\\\\\"}\\"}"}',
        ),
        (
            b'{"biz_content":"{}"}',
            {("biz_content",): Replace("***"), ("biz_content", "x"): DROP},
            b'{"biz_content":"***"}',
        ),
    ],
)
def test_edits_of_json(body: bytes, edits: dict[JsonPointer, Edit], expected: bytes | None) -> None:
    after = edited(body, JSON, edits)
    assert after == (body if expected is None else expected)
    assert expected is not None or after is body


@pytest.mark.parametrize(
    ("body", "edits", "expected"),
    [
        (b"a=1&b=2&c=3", {("a",): DROP}, b"b=2&c=3"),
        (b"a=1&b=2&c=3", {("b",): DROP}, b"a=1&c=3"),
        (b"a=1&b=2&c=3", {("c",): DROP}, b"a=1&b=2"),
        (b"a=1&b=2&c=3", {("a",): DROP, ("b",): DROP}, b"c=3"),
        (b"a=1&b=2&c=3", {("c",): DROP, ("b",): DROP}, b"a=1"),
        (b"a=1&b=2&c=3", {("a",): DROP, ("c",): DROP}, b"b=2"),
        (b"a=1&&b=2&", {("a",): DROP, ("b",): DROP}, b""),
        (b"a=1&&b=2", {("b",): DROP}, b"a=1&"),
        (b"a=%7e+%7E&b=x", {("b",): Replace("支 付+*~")}, b"a=%7e+%7E&b=" + quote_plus("支 付+*~", safe="*").encode()),
        (b"%61=1", {("a",): Replace("2")}, b"%61=2"),
        (b"a=%31%32%33", {("a",): Splice(((1, 2, "&"),))}, b"a=%31%26%33"),
        (b"a=1", {("a",): Replace("1")}, None),
        (b"a=1", {("b",): DROP, ("a", "x"): DROP}, None),
        (b"biz_content={}&a=1", {("biz_content",): DROP, ("biz_content", "x"): DROP}, b"a=1"),
    ],
)
def test_edits_of_forms(body: bytes, edits: dict[JsonPointer, Edit], expected: bytes | None) -> None:
    after = edited(body, FORM, edits)
    assert after == (body if expected is None else expected)
    assert expected is not None or after is body


def test_what_a_charset_cannot_write_is_an_error() -> None:
    with pytest.raises(BodyError) as raised:
        edited(b"charset=gbk&a=1", FORM, {("a",): Replace("😀")})
    assert raised.value.kind is KIND.ENCODING


FILE = part("f", b"\xff", disposition='; filename="x"')


@pytest.mark.parametrize(
    ("before", "edits", "after"),
    [
        ((part("a", b"1"), part("b", b"2")), {("a",): Replace("支")}, (part("a", "支".encode()), part("b", b"2"))),
        ((part("a", b"1"), FILE, part("b", b"2")), {("f",): DROP}, (part("a", b"1"), part("b", b"2"))),
        ((part("a", b"1"), part("b", b"2")), {("a",): DROP, ("b",): DROP}, ()),
        ((part("a", "支123".encode()),), {("a",): Splice(((2, 3, "*"),))}, (part("a", "支1*3".encode()),)),
        (
            (part("a", b' {"p":"1", "q":2}', "Content-Type: application/json"),),
            {("a", "p"): Replace('"'), ("a", "q"): DROP},
            (part("a", b' {"p":"\\""}', "Content-Type: application/json"),),
        ),
        (
            (part("a", b' "a\\"13812341234"', "Content-Type: application/json"),),
            {("a",): Splice(((5, 9, "****"),))},
            (part("a", b' "a\\"138****1234"', "Content-Type: application/json"),),
        ),
        (
            (part("a", b'{"x":1}', "Content-Type: application/json"),),
            {("a",): Replace('"')},
            (part("a", b'"\\""', "Content-Type: application/json"),),
        ),
    ],
)
def test_edits_of_parts(before: tuple[bytes, ...], edits: dict[JsonPointer, Edit], after: tuple[bytes, ...]) -> None:
    changed = edited(parts(*before), MULTIPART, edits)
    assert changed == parts(*after)
    read_body(changed, MULTIPART, ALL)


@pytest.mark.parametrize("edit", [Splice(((2, 13, ""),)), Replace("\r\n--B\r\n")])
def test_no_boundary_comes_into_being_by_an_edit(edit: Edit) -> None:
    with pytest.raises(BodyError) as raised:
        edited(parts(part("a", b"--13812341234B--"), part("b", b"2")), MULTIPART, {("a",): edit})
    assert raised.value.kind is KIND.FORM


# -- properties: what is not named stays as it was written -------------------------------------------------------------

Spelled = tuple[str, str]
"""A character of a text, and how it is written."""
CHARACTERS = st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\/\n\x00 +&=%支付张😀Aé13812341234')
GBK_CHARACTERS = st.sampled_from('"\\/\n +&=%支付张三Aéα13812341234〇')


def spell_in_json(draw: st.DrawFn, character: str) -> str:
    units = character.encode("utf-16-be")
    escapes = "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
    plain = json.dumps(character, ensure_ascii=False)[1:-1]
    return draw(st.sampled_from([plain, plain, escapes, escapes.upper().replace("\\U", "\\u")]))


def spell_in_form(draw: st.DrawFn, text: str, codec: str) -> str:
    """As latin-1, so that raw bytes have a place in it."""
    if text == " ":
        return draw(st.sampled_from(["+", "%20"]))
    data = text.encode(codec)
    escaped = "".join(f"%{byte:02X}" for byte in data)
    choices = [escaped, escaped.lower()]
    if not set("&=%+") & set(data.decode("latin-1")):
        choices += [data.decode("latin-1")] * 2
    return draw(st.sampled_from(choices))


def spell_embedded_in_form(draw: st.DrawFn, character: str, codec: str) -> str:
    return "".join(spell_in_form(draw, one, codec) for one in spell_in_json(draw, character))


def spell_embedded_in_json(draw: st.DrawFn, character: str) -> str:
    return "".join(spell_in_json(draw, one) for one in spell_in_json(draw, character))


def draw_parts(draw: st.DrawFn, length: int, news: st.SearchStrategy[str]) -> tuple[tuple[int, int, str], ...]:
    ends = sorted(draw(st.lists(st.integers(0, length), max_size=6)))
    pairs = zip(ends[::2], ends[1::2], strict=False)
    return tuple((start, end, draw(news)) for start, end in pairs)


def spliced_spelling(spelled: list[Spelled], cuts: tuple[tuple[int, int, str], ...]) -> tuple[str, list[str | None]]:
    """The text after the splice, and the spellings of what stays with None for each replacement."""
    text, spellings, at = "", [], 0
    for start, end, new in cuts:
        text += "".join(character for character, _ in spelled[at:start]) + new
        spellings += [spelling for _, spelling in spelled[at:start]] + [None]
        at = end
    text += "".join(character for character, _ in spelled[at:])
    return text, [*spellings, *(spelling for _, spelling in spelled[at:])]


def check_splice(
    draw: st.DrawFn,
    spelled: list[Spelled],
    news: st.SearchStrategy[str],
    around: tuple[bytes, bytes],
    raw_codec: str,
    type_: str,
    pointer: JsonPointer,
) -> None:
    """Edit and compare with what the spellings say. Replacements may be spelled in any way that reads back."""
    cuts = draw_parts(draw, len(spelled), news)
    source = around[0] + "".join(spelling for _, spelling in spelled).encode(raw_codec) + around[1]
    after = edited(source, type_, {pointer: Splice(cuts)})
    text, kept = spliced_spelling(spelled, cuts)
    assert lookup(read_body(after, type_, ALL).value, pointer) == text
    assert after.startswith(around[0])
    assert after.endswith(around[1])
    rest = after[len(around[0]) : len(after) - len(around[1])].decode(raw_codec)
    fixed = "".join("\ue000" if one is None else one for one in kept).split("\ue000")
    assert rest.startswith(fixed[0])
    assert rest.endswith(fixed[-1])
    for piece in fixed:  # in this order, and nothing else but the replacements between them
        at = rest.find(piece)
        assert at >= 0
        rest = rest[at + len(piece) :]
    # What is put back restores the text; nothing to do gives the very object.
    same = "".join(character for character, _ in spelled)
    nothing = Splice(tuple((start, start, "") for start, _, _ in cuts))
    assert edited(source, type_, {pointer: nothing}) is source
    assert lookup(read_body(source, type_, ALL).value, pointer) == same


NEW = st.text(CHARACTERS, max_size=4).filter(lambda text: "\ue000" not in text)
NEW_GBK = st.text(GBK_CHARACTERS, max_size=4)


@given(st.data())
def test_a_splice_in_json(data: st.DataObject) -> None:
    draw = data.draw
    text = draw(st.text(CHARACTERS, max_size=12)).replace("\ue000", "")
    spelled = [(one, spell_in_json(draw, one)) for one in text]
    check_splice(draw, spelled, NEW, (b'{ "z":[1 ],"\\u0061" : "', b'" ,"y":"\xc3\xa9\\/"}'), "utf-8", JSON, ("a",))


@given(st.data())
def test_a_splice_in_a_document_in_json(data: st.DataObject) -> None:
    draw = data.draw
    text = draw(st.text(CHARACTERS, max_size=8)).replace("\ue000", "")
    spelled = [(one, spell_embedded_in_json(draw, one)) for one in text]
    around = (b'{"biz_content":" {\\"a\\":\\u0022', b'\\", \\"b\\":[1]}" }')
    check_splice(draw, spelled, NEW, around, "utf-8", JSON, ("biz_content", "a"))


@given(st.data(), st.sampled_from(["utf-8", "gbk"]), st.booleans())
def test_a_splice_in_a_form(data: st.DataObject, codec: str, embedded: bool) -> None:
    draw = data.draw
    characters, news = (CHARACTERS, NEW) if codec == "utf-8" else (GBK_CHARACTERS, NEW_GBK)
    text = draw(st.text(characters, max_size=10)).replace("\ue000", "")
    if embedded:
        spelled = [(one, spell_embedded_in_form(draw, one, codec)) for one in text]
        around = (f'charset={codec}&biz_content=%7B%22a%22:"'.encode(), b'"+,%22b%22%3a1%7d&z=%7e')
        pointer: JsonPointer = ("biz_content", "a")
    else:
        spelled = [(one, spell_in_form(draw, one, codec)) for one in text]
        around, pointer = (f"b=+&charset={codec}&%61=".encode(), b"&z=%7e&&"), ("a",)
    check_splice(draw, spelled, news, around, "latin-1", FORM, pointer)


@given(st.data())
def test_a_splice_in_a_part(data: st.DataObject) -> None:
    draw = data.draw
    text = draw(st.text(CHARACTERS, max_size=10)).replace("\ue000", "")
    head, tail = parts(part("z", b"1"), part("a", b"@"), FILE).split(b"@")
    check_splice(draw, [(one, one) for one in text], NEW, (head, tail), "utf-8", MULTIPART, ("a",))


NAMES = st.from_regex(r"\A[a-z][a-z0-9_.\[\]-]{0,6}\Z")


@given(st.data(), st.sampled_from(["utf-8", "gbk"]))
def test_parameters_that_are_not_named_stay(data: st.DataObject, codec: str) -> None:
    draw = data.draw
    characters = CHARACTERS if codec == "utf-8" else GBK_CHARACTERS
    values = draw(st.dictionaries(NAMES.filter(lambda name: name not in ("charset", "outer")), st.text(characters)))
    written = {
        name: f"{name}=" + "".join(spell_in_form(draw, one, codec) for one in value) for name, value in values.items()
    }
    query = "&".join([f"charset={codec}", *written.values()])
    choice = st.none() | st.just(DROP) | st.just(Replace("* ~1"))
    edits = {name: edit for name in values if (edit := draw(choice)) is not None}
    expected = [f"charset={codec}"]
    expected += [
        f"{name}={quote_plus('* ~1', safe='*')}" if name in edits else text
        for name, text in written.items()
        if edits.get(name) is not DROP
    ]
    after = edited(query.encode("latin-1"), FORM, {(name,): edit for name, edit in edits.items()})
    assert after.decode("latin-1") == "&".join(expected)
    if query.isascii():
        assert read_query(query, ALL).edit({(name,): edit for name, edit in edits.items()}) == after
        readable = parse_qs(after.decode(), keep_blank_values=True, encoding=codec)
        assert {name: found[0] for name, found in readable.items()} == {"charset": codec} | {
            name: "* ~1" if name in edits else value for name, value in values.items() if edits.get(name) is not DROP
        }


SCALARS = st.none() | st.booleans() | st.integers() | st.text(CHARACTERS, max_size=4)
TREES = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.recursive(
        SCALARS,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
        ),
        max_leaves=8,
    ),
)
POINTERS = st.lists(st.sampled_from(["a", "b", "c", "0", "1"]), min_size=1, max_size=3).map(tuple)


@given(TREES, st.dictionaries(POINTERS, st.just(DROP) | st.just(Replace("*")), max_size=4), st.sampled_from("jfm"))
def test_edits_of_a_tree_wherever_it_is_embedded(
    tree: dict[str, object], edits: dict[JsonPointer, Edit], where: str
) -> None:
    text = json.dumps(tree, ensure_ascii=False)
    body, type_ = {
        "j": (json.dumps({"biz_content": text}).encode(), JSON),
        "f": (b"biz_content=" + quote_plus(text).encode(), FORM),
        "m": (parts(part("biz_content", text.encode())), MULTIPART),
    }[where]
    after = edited(body, type_, {("biz_content", *pointer): edit for pointer, edit in edits.items()})
    assert lookup(read_body(after, type_, ALL).value, ("biz_content",)) == expected_tree(tree, edits, ())
    plain = edited(text.encode(), JSON, edits, Reading())
    assert parse_json(plain).value == expected_tree(tree, edits, ())


def expected_tree(value: object, edits: Mapping[JsonPointer, Edit], at: JsonPointer) -> object:
    def changed(token: str, inner: object, *, in_array: bool) -> list[object]:
        edit = edits.get((*at, token))
        if edit is DROP:
            return [None] if in_array else []
        if isinstance(edit, Replace):
            return [edit.text]
        return [expected_tree(inner, edits, (*at, token))]

    if isinstance(value, dict):
        return {name: new for name, inner in value.items() for new in changed(name, inner, in_array=False)}
    if isinstance(value, list):
        return [new for index, inner in enumerate(value) for new in changed(str(index), inner, in_array=True)]
    return value
