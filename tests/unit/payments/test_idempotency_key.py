"""Idempotency-Key: one quoted string, and nothing that another reader could take for another key."""

from __future__ import annotations

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.idempotency_key import MAX_KEY_CHARS, IdempotencyKeyProblem, parse_idempotency_key

PRINTABLE = [chr(code) for code in range(0x20, 0x7F)]


@pytest.mark.parametrize(
    ("value", "key"),
    [
        # The draft's own example, section 2.1.
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ('"a"', "a"),
        ('"a b,c;d"', "a b,c;d"),
        (r'"a\"b\\c"', r"a\"b\c".replace(r"\"", '"')),
        (' "a" ', "a"),
        (f'"{"k" * MAX_KEY_CHARS}"', "k" * MAX_KEY_CHARS),
        ('"' + r"\\" * MAX_KEY_CHARS + '"', "\\" * MAX_KEY_CHARS),
    ],
)
def test_read(value: str, key: str) -> None:
    assert parse_idempotency_key(value) == key


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ('""', IdempotencyKeyProblem.EMPTY),
        (f'"{"k" * (MAX_KEY_CHARS + 1)}"', IdempotencyKeyProblem.TOO_LONG),
        ('"' + r"\\" * (MAX_KEY_CHARS + 1) + '"', IdempotencyKeyProblem.TOO_LONG),
        ("k" * 100_000, IdempotencyKeyProblem.TOO_LONG),
        *(
            (value, IdempotencyKeyProblem.NOT_A_STRING)
            for value in (
                "",
                " ",
                "8e03978e-40d5-43dd-bc93-6894a57f9324",
                "token",
                "'single'",
                "12",
                "?1",
                "@1659578233",
                ":YWJj:",
                '%"display"',
                '("inner" "list")',
                '"a", "b"',
                '"a","a"',
                '"a";n=1',
                '"a";n',
                '"a" "b"',
                '"a"b',
                '"a',
                'a"',
                r'"a\n"',
                '"tab\t"',
                '"line\n"',
                '"\x00"',
                '"\x7f"',
                '"\u00e9"',
                '"\udcff"',
                '"\uff11"',
            )
        ),
    ],
)
def test_refused(value: str, problem: IdempotencyKeyProblem) -> None:
    assert parse_idempotency_key(value) is problem


def test_a_problem_is_no_key() -> None:
    assert not any(isinstance(problem, str) for problem in IdempotencyKeyProblem)


@given(key=st.text(PRINTABLE, min_size=1, max_size=MAX_KEY_CHARS))
def test_every_key_survives_the_way(key: str) -> None:
    assert parse_idempotency_key(http_sf.ser(key)) == key


@given(value=st.text(max_size=600) | st.text('"\\ab;,() \t', max_size=40))
def test_any_text_is_read_or_refused(value: str) -> None:
    key = parse_idempotency_key(value)
    if isinstance(key, str):
        # One key has one spelling, so a service that compares the header itself sees the same keys as we do.
        assert http_sf.ser(key) == value.strip(" ")
        assert 1 <= len(key) <= MAX_KEY_CHARS
