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
    mask,
    mask_bank_account,
    mask_email,
    mask_name,
    mask_order_no,
    mask_pan,
    mask_phone,
    mask_resident_id,
)
from paymesh.payments.policy.field_rules import MaskKind

VECTORS = json.loads((Path(__file__).parent / "vectors" / "sanitization.json").read_text())


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
        (mask_phone, "١٣٨١٢٣٤١٢٣٤", "138****1234"),
        (mask_phone, "(+86)138.1234.1234", "138****1234"),
        (mask_phone, "1\u200b38\u200d12341234", "138****1234"),
        (mask_phone, "+85291234567", FULL_MASK),
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
        (mask_email, "zhang.san@example.com", "z***@example.com"),
        (mask_email, "ｚｈａｎｇ＠ｅｘａｍｐｌｅ．ｃｏｍ", "z***@example.com"),
        (mask_email, "张三@例子.中国", "张***@例子.中国"),
        (mask_email, "a@example.com", "***@example.com"),
        (mask_email, "*@example.com", "***@example.com"),
        (mask_email, "***@example.com", "***@example.com"),
        (mask_email, "ab@13812341234.com", "a***@***.com"),
        (mask_email, "a@b.13812341234", FULL_MASK),
        (mask_email, "a@b@example.com", "a***@example.com"),
        (mask_email, "a@example", FULL_MASK),
        (mask_email, "no address", FULL_MASK),
        (mask_email, "a b@example.com", FULL_MASK),
        (mask_bank_account, "6222 0200 1234", "********1234"),
        (mask_bank_account, "DE89 3704 0044 0532 0130 00", "******************3000"),
        (mask_bank_account, "12345678", "****5678"),
        (mask_bank_account, "1234567", FULL_MASK),
        (mask_bank_account, "账号12345678", FULL_MASK),
        (mask_name, "张三丰", "张**"),
        (mask_name, "张三", "张**"),
        (mask_name, "欧阳修", "欧**"),
        (mask_name, "John Smith", "J***"),
        (mask_name, " Ørsted", "Ø***"),
        (mask_name, "张", FULL_MASK),
        (mask_name, "13812341234", FULL_MASK),
        (mask_name, "", FULL_MASK),
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
    st.text(alphabet="ab1*@.张 ", max_size=16),
    st.from_regex(r"(\+?86)?1[3-9]\d[\d*]{4}\d{4}|\d{6}[\d*]{2,9}\d{3}[\dX]", fullmatch=True),
    st.emails(),
)


@given(st.sampled_from(MaskKind), VALUES)
def test_masking_twice_is_masking_once(kind: MaskKind, value: str) -> None:
    assert mask(kind, mask(kind, value)) == mask(kind, value)


@given(st.sampled_from(sorted(set(MaskKind) - {MaskKind.EMAIL, MaskKind.NAME})), VALUES)
def test_at_most_ten_characters_are_shown_and_two_hidden(kind: MaskKind, value: str) -> None:
    masked = mask(kind, value)
    shown = [character for character in masked if character != "*"]
    assert len(shown) <= 10
    assert masked == FULL_MASK or len(masked) - len(shown) >= 2


@given(VALUES)
def test_of_a_name_and_an_address_one_character_is_shown(value: str) -> None:
    assert len(mask_name(value).rstrip("*")) <= 1
    assert len(mask_email(value).partition("@")[0].rstrip("*")) <= 1
