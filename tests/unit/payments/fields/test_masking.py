"""Masks against the vectors, and that no mask ever shows more than its kind allows."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.fields.masking import (
    FULL_MASK,
    keyed_hash,
    mask,
    mask_order_no,
    mask_pan,
    mask_phone,
    mask_resident_id,
)
from paymesh.payments.policy.compiled import HashKey, MaskKind
from paymesh.payments.secrets import Secret

VECTORS = json.loads((Path(__file__).parent / "vectors" / "sanitization.json").read_text())
KEY = HashKey("k1", Secret(b"0123456789abcdef"))


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["kind"] == "cn_mobile"], ids=lambda v: v["value"])
def test_phones(vector: dict[str, object]) -> None:
    value = str(vector["value"])
    masked = mask_phone(value)
    if vector["masked"] is not None:
        assert masked == vector["masked"]
    elif vector["phonenumbers_9_0_43_valid"]:
        number = unicodedata.normalize("NFKC", value)
        assert masked == f"{number[:3]}****{number[-4:]}"
    else:
        assert masked == FULL_MASK


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["kind"] == "pan"], ids=lambda v: v["value"])
def test_pans(vector: dict[str, object]) -> None:
    expected = vector["pci_max_display"] if vector["length_ok"] else FULL_MASK
    assert mask_pan(str(vector["value"])) == expected


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["kind"] == "cn_ric"], ids=lambda v: v["value"])
def test_resident_ids(vector: dict[str, object]) -> None:
    value = str(vector["value"])
    expected = f"{value[:6]}********{value[-4:]}" if len(value) == 18 else FULL_MASK
    assert mask_resident_id(value) == expected


@pytest.mark.parametrize(
    ("masked_by", "value", "expected"),
    [
        (mask_phone, "+86 138-1234-1234", "138****1234"),
        (mask_phone, "＋８６　１３８１２３４１２３４", "138****1234"),
        (mask_phone, "0086 13812341234", "138****1234"),
        (mask_phone, "138\u20111234\u20111234", "138****1234"),
        (mask_phone, "١٣٨١٢٣٤١٢٣٤", FULL_MASK),
        (mask_phone, "13812341234\n", FULL_MASK),
        (mask_phone, "13812341234 13812341234", FULL_MASK),
        (mask_phone, "", FULL_MASK),
        (mask_resident_id, "110105 19491231 002X", "110105********002X"),
        (mask_resident_id, "１１０１０５１９４９１２３１００２Ｘ", "110105********002X"),
        (mask_resident_id, "11010519491231002XX", FULL_MASK),
        (mask_pan, "4111-1111-1111-1111", "411111******1111"),
        (mask_pan, "41111111111", FULL_MASK),
        (mask_pan, "41111111111111111111", FULL_MASK),
        (mask_pan, "4111111111111111=2912101", FULL_MASK),
        (mask_order_no, "20260101ABCDEFGH", "2026********EFGH"),
        (mask_order_no, "20260101ABCD", "2026****ABCD"),
        (mask_order_no, "20260101ABC", FULL_MASK),
        (mask_order_no, "订单20260101ABCDEFGH", FULL_MASK),
        (mask_order_no, "x" * 65, FULL_MASK),
    ],
)
def test_shapes(masked_by: Callable[[str], str], value: str, expected: str) -> None:
    assert masked_by(value) == expected


VALUES = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="0123456789*xX +-１２３", max_size=24),
    st.from_regex(r"(\+?86)?1[3-9]\d[\d*]{4}\d{4}|\d{6}[\d*]{2,9}\d{3}[\dX]", fullmatch=True),
)


@given(st.sampled_from(MaskKind), VALUES)
def test_masking_twice_is_masking_once(kind: MaskKind, value: str) -> None:
    assert mask(kind, mask(kind, value)) == mask(kind, value)


@given(st.sampled_from(MaskKind), VALUES)
def test_at_most_ten_characters_are_shown_and_two_hidden(kind: MaskKind, value: str) -> None:
    masked = mask(kind, value)
    shown = [character for character in masked if character != "*"]
    assert len(shown) <= 10
    assert masked == FULL_MASK or len(masked) - len(shown) >= 2


def test_a_hash_names_its_key_and_depends_on_it() -> None:
    # printf 元 | openssl dgst -sha256 -hmac 0123456789abcdef
    assert keyed_hash(KEY, "元") == "hk:k1:b305c5c50e6ba0ef0fa9bea8b5ad852be14232182555e61f6a20703c1a1d8650"
    assert keyed_hash(KEY, "元") != keyed_hash(HashKey("k1", Secret(b"another key of 16")), "元")


def test_what_looks_hashed_is_hashed_all_the_same() -> None:
    once = keyed_hash(KEY, "a")
    assert keyed_hash(KEY, once) not in (once, "a")
