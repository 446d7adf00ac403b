"""Content types: every spelling of one, and none that two readers take differently."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.bodies.content_type import parse_content_type
from paymesh.payments.bodies.errors import BodyError, BodyErrorKind


@pytest.mark.parametrize(
    ("text", "media_type", "parameters"),
    [
        ("application/json", "application/json", {}),
        (" Application/JSON ", "application/json", {}),
        ("application/json;", "application/json", {}),
        ("application/json ; ; charset=UTF-8;", "application/json", {"charset": "UTF-8"}),
        ('text/html;Charset="gbk"', "text/html", {"charset": "gbk"}),
        ('a/b; x="1; charset=gbk"; y=2', "a/b", {"x": "1; charset=gbk", "y": "2"}),
        ("multipart/form-data; boundary=a'()+_,-./:=?", "multipart/form-data", {"boundary": "a'()+_,-./:=?"}),
    ],
)
def test_read(text: str, media_type: str, parameters: dict[str, str]) -> None:
    found = parse_content_type(text)
    assert (found.media_type, found.parameters) == (media_type, parameters)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "application",
        "application/json, application/json",
        "application/json,text/plain",
        "application/json; charset=utf-8, application/json; charset=utf-8",
        "application/json; charset",
        "application/json; charset=",
        "application/json; charset =utf-8",
        "application/json; charset= utf-8",
        'application/json; charset="utf-8',
        'application/json; charset="utf\\-8"',
        "application/json; charset=utf-8; CHARSET=utf-8",
        "application/json; charset*=utf-8''gbk",
        "application/json; charset*0=utf-8",
        "application/json charset=utf-8",
        "application/json\x00",
        "application/json; a=\x7f",
        "application/json; a=é",
        'application/json; a="é"',
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(BodyError) as raised:
        parse_content_type(text)
    assert raised.value.kind is BodyErrorKind.CONTENT_TYPE


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [
        ("application/json", True),
        ("application/problem+json", True),
        ("text/json", False),
        ("application/jsonp", False),
        ("application/x+jsonx", False),
    ],
)
def test_json_types(media_type: str, expected: bool) -> None:
    assert parse_content_type(media_type).is_json is expected


@given(st.text(max_size=60) | st.text('a/b;=" charset,\\', max_size=40))
def test_any_text(text: str) -> None:
    for one in (text, f"a/b;{text}", f"a/b; charset={text}"):
        with contextlib.suppress(BodyError):
            parse_content_type(one)
