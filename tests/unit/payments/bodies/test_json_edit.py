"""Editing a JSON text: the named places change, every other character stays."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.bodies.json_body import MISSING, lookup, parse_json
from paymesh.payments.bodies.json_edit import DROP, Drop, edit, find_spans


def edited(text: str, edits: dict[tuple[str, ...], str | Drop]) -> str:
    return edit(parse_json(text.encode()), edits)


@pytest.mark.parametrize(
    ("text", "edits", "expected"),
    [
        ('{ "a" : 1 , "b":2 }', {("a",): '"x"'}, '{ "a" : "x" , "b":2 }'),
        ('{"\\u0070hone":"1"}', {("phone",): '"x"'}, '{"\\u0070hone":"x"}'),
        ('{"a":{"phone":1},"phone":2}', {("phone",): "0"}, '{"a":{"phone":1},"phone":0}'),
        ('{"a":"{\\"b\\":1,","b":2}', {("b",): "0"}, '{"a":"{\\"b\\":1,","b":0}'),
        ('{"a":[1, {"b":2}]}', {("a", "1", "b"): "0"}, '{"a":[1, {"b":0}]}'),
        ('{"a":1}', {("b",): "0", ("a", "b"): "0", ("a", "0"): "0"}, '{"a":1}'),
        ('{"a":{"b":1}}', {("a",): '"x"', ("a", "b"): "0"}, '{"a":"x"}'),
        ('{"a":1,"b":{"c":1}}', {("b",): DROP, ("b", "c"): DROP}, '{"a":1}'),
        ("  [1] ", {(): "null"}, "  null "),
        ("{}", {("a",): DROP}, "{}"),
        ('{ "a":1 }', {("a",): DROP}, "{}"),
        ('{ "a":1, "b":2, "c":3 }', {("a",): DROP}, '{ "b":2, "c":3 }'),
        ('{ "a":1, "b":2, "c":3 }', {("b",): DROP}, '{ "a":1, "c":3 }'),
        ('{ "a":1, "b":2, "c":3 }', {("c",): DROP}, '{ "a":1, "b":2}'),
        ('{ "a":1, "b":2, "c":3 }', {("a",): DROP, ("b",): DROP}, '{ "c":3 }'),
        ('{ "a":1, "b":2, "c":3 }', {("c",): DROP, ("a",): DROP}, '{ "b":2}'),
        ('{ "a":1, "b":2, "c":3 }', {("c",): DROP, ("b",): DROP}, '{ "a":1}'),
        ('{ "a":1, "b":2, "c":3 }', {("c",): DROP, ("b",): DROP, ("a",): DROP}, "{}"),
        ("[1, 2, 3]", {("1",): DROP}, "[1, 3]"),
    ],
)
def test_edit(text: str, edits: dict[tuple[str, ...], str | Drop], expected: str) -> None:
    assert edited(text, edits) == expected


def test_the_whole_document_cannot_be_dropped() -> None:
    with pytest.raises(ValueError, match="whole document"):
        edited("{}", {(): DROP})


def test_a_span_says_where_a_member_stands() -> None:
    text = '{"x":0, "a" : [true] }'
    span = find_spans(parse_json(text.encode()), [("a",)])[("a",)]
    assert text[span.start : span.end] == ' "a" : [true] '
    assert span.key_start is not None
    assert text[span.key_start : span.value_end] == '"a" : [true]'
    assert text[span.value_start : span.value_end] == "[true]"
    assert (span.container, span.index, span.is_last) == (0, 1, True)


WHITE = st.text(alphabet=" \t\r\n", max_size=3)
NAMES = st.sampled_from(["a", "b", "phone", "é", '"', ""])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(alphabet=st.characters(exclude_categories=["Cs"]))),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)


def written(draw: st.DrawFn, value: object) -> str:
    """The value as JSON with white space and escapes wherever JSON allows them."""
    if isinstance(value, dict):
        items = [f"{written(draw, name)}:{written(draw, child)}" for name, child in value.items()]
        text = "{" + ",".join(items) + (draw(WHITE) if not items else "") + "}"
    elif isinstance(value, list):
        text = "[" + ",".join(written(draw, child) for child in value) + "]"
    elif isinstance(value, str) and draw(st.booleans()):
        units = value.encode("utf-16-be")
        text = '"' + "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2)) + '"'
    else:
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return draw(WHITE) + text + draw(WHITE)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[str, object]]:
    value = draw(st.dictionaries(NAMES, VALUES, max_size=5))
    return written(draw, value), value


POINTERS = st.lists(st.one_of(NAMES, st.sampled_from(["0", "1"])), min_size=1, max_size=3).map(tuple)


@given(documents(), st.dictionaries(POINTERS, st.one_of(st.just(DROP), st.sampled_from(['"m"', "null"])), max_size=4))
def test_the_result_is_what_was_asked_for(
    document: tuple[str, dict[str, object]], edits: dict[tuple[str, ...], str | Drop]
) -> None:
    text, value = document
    after = parse_json(edited(text, edits).encode()).value
    assert after == expected_value(value, edits, ())


def expected_value(value: object, edits: dict[tuple[str, ...], str | Drop], here: tuple[str, ...]) -> object:
    def change(name: str, child: object) -> list[object]:
        asked = edits.get((*here, name))
        if asked is DROP:
            return []
        return [expected_value(child, edits, (*here, name)) if asked is None else json.loads(asked)]

    if isinstance(value, dict):
        return {name: new for name, child in value.items() for new in change(name, child)}
    if isinstance(value, list):
        return [new for index, child in enumerate(value) for new in change(str(index), child)]
    return value


@given(documents(), st.sets(POINTERS, max_size=4))
def test_outside_the_named_places_every_character_stays(
    document: tuple[str, dict[str, object]], pointers: set[tuple[str, ...]]
) -> None:
    text, value = document
    parsed = parse_json(text.encode())
    spans = find_spans(parsed, pointers)
    assert spans.keys() == {pointer for pointer in pointers if lookup(value, pointer) is not MISSING}
    same = {pointer: text[span.value_start : span.value_end] for pointer, span in spans.items()}
    assert edit(parsed, same) == text
    for pointer, span in spans.items():
        assert edit(parsed, {pointer: "\0"}) == f"{text[: span.value_start]}\0{text[span.value_end :]}"
        left = edit(parsed, {pointer: DROP})
        assert left in (text[: span.start] + text[span.end + 1 :], text[: span.start - 1] + text[span.end :]) or (
            span.index == 0 and span.is_last and left == text[: span.start] + text[span.end :]
        )
