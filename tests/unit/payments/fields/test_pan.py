"""Card numbers against the vectors, and that none is ever printed."""

import copy
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.fields.card_ranges import luhn_valid, range_of
from paymesh.payments.fields.pan import Pan

VECTORS = [
    vector
    for vector in json.loads((Path(__file__).parent / "vectors" / "sanitization.json").read_text())
    if vector["kind"] == "pan"
]
DIGITS = st.text(alphabet="0123456789", min_size=12, max_size=19)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["value"])
def test_the_vectors(vector: dict[str, object]) -> None:
    pan = Pan.parse(str(vector["value"]))
    assert (pan is not None) == vector["length_ok"]
    if pan is not None:
        assert pan.luhn_valid == vector["luhn"]
        assert str(pan) == (vector["pci_max_display"] if len(pan.reveal()) >= 15 else vector["last4_only"])


@pytest.mark.parametrize(
    ("number", "scheme", "is_card"),
    [
        ("4111111111111111", "visa", True),
        ("4111111111111112", "visa", False),
        ("411111111111111", "visa", False),
        ("4222222222222", "visa", True),
        ("5555555555554444", "mastercard", True),
        ("2221000000000009", "mastercard", True),
        ("2720990000000007", "mastercard", True),
        ("2721000000000004", None, False),
        ("378282246310005", "amex", True),
        ("3530111333300000", "jcb", True),
        ("30569309025904", "diners", True),
        ("36227206271667", "diners", True),
        ("6011111111111117", "discover", True),
        ("6759649826438453", "maestro", True),
        ("2201382000000013", "mir", True),
        ("6521111111111110", "discover", True),
        ("8171999927660000", "unionpay", True),
        ("8100000000000001", "unionpay", True),
        ("6222020000000000001", "unionpay", True),
        ("62220200000000", "unionpay", True),
        ("622202000000", "unionpay", False),
        ("1111111111111117", None, False),
    ],
)
def test_schemes(number: str, scheme: str | None, is_card: bool) -> None:
    pan = Pan.parse(number)
    assert pan is not None
    assert (pan.scheme, pan.is_card) == (scheme, is_card)


@pytest.mark.parametrize(
    "text",
    [
        "4111-1111-1111-1111",
        "４１１１　１１１１　１１１１　１１１１",
        "٤١١١١١١١١١١١١١١١",
        "4111\u20111111\u00a01111\u200b1111",
    ],
)
def test_one_number_however_it_is_written(text: str) -> None:
    pan = Pan.parse(text)
    assert pan == Pan.parse("4111111111111111")
    assert pan is not None
    assert (pan.reveal(), pan.bin6, pan.last4) == ("4111111111111111", "411111", "1111")


@pytest.mark.parametrize(
    "text", ["", "41111111111", "4" * 20, "4111111111111111=2912", "41111111111111.11", "4" * 5000]
)
def test_what_is_no_number(text: str) -> None:
    assert Pan.parse(text) is None


@given(DIGITS)
def test_a_number_is_never_printed(digits: str) -> None:
    pan = Pan.parse(digits)
    assert pan is not None
    for shown in (str(pan), repr(pan), f"{pan}", f"{pan!r:>40}", f"{[pan]}", f"{copy.copy(pan)}"):
        assert digits not in shown
        assert sum(character.isdigit() for character in shown) <= 10


def test_a_number_stays_itself_when_it_is_pickled() -> None:
    pan = Pan.parse("4111111111111111")
    assert pickle.loads(pickle.dumps(pan)) == pan
    assert len({pan, Pan.parse("4111 1111 1111 1111")}) == 1


@given(DIGITS)
def test_every_single_mistake_breaks_the_check_digit(digits: str) -> None:
    check = next(digit for digit in "0123456789" if luhn_valid(digits[:-1] + digit))
    number = digits[:-1] + check
    for place, digit in enumerate(number):
        other = str((int(digit) + 1) % 10)
        assert not luhn_valid(number[:place] + other + number[place + 1 :])


@given(st.integers(0, 999999))
def test_every_bin_has_one_range_or_none(bin6: int) -> None:
    card_range = range_of(f"{bin6:06}")
    assert card_range is None or card_range.low <= bin6 <= card_range.high
