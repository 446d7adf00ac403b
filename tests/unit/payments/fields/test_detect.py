"""Values planted in text are found to the character, look-alikes are not, and masking leaves nothing to find."""

import datetime
import hashlib
import uuid

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from paymesh.payments.fields.card_ranges import luhn_valid
from paymesh.payments.fields.detect import find, masked, might_hold
from paymesh.payments.policy.field_rules import Detector

ALL = frozenset(Detector)
PHONE, PAN, RESIDENT_ID = "13812341234", "6222020000000000000", "11010519491231002X"

FINDS = [
    (PHONE, [("phone", PHONE)]),
    ("电话13812341234联系", [("phone", PHONE)]),
    ("138 1234 1234", [("phone", "138 1234 1234")]),
    ("138-1234-1234。", [("phone", "138-1234-1234")]),
    ("138.1234.1234", [("phone", "138.1234.1234")]),
    ("1 3 8 1 2 3 4 1 2 3 4", [("phone", "1 3 8 1 2 3 4 1 2 3 4")]),
    ("138\u20111234\u00a01234", [("phone", "138\u20111234\u00a01234")]),
    ("1\u200b3812341234", [("phone", "1\u200b3812341234")]),
    ("１３８１２３４１２３４", [("phone", "１３８１２３４１２３４")]),
    ("١٣٨١٢٣٤١٢٣٤", [("phone", "١٣٨١٢٣٤١٢٣٤")]),
    ("打+8613812341234吧", [("phone", "+8613812341234")]),
    ("+86 138 1234 1234", [("phone", "+86 138 1234 1234")]),
    ("+86 138.1234.1234", [("phone", "+86 138.1234.1234")]),
    ("(+86)13812341234", [("phone", "(+86)13812341234")]),
    ("（＋86） 13812341234", [("phone", "（＋86） 13812341234")]),
    ("86-13812341234", [("phone", "86-13812341234")]),
    ("0086 13812341234", [("phone", "0086 13812341234")]),
    ("(13812341234)", [("phone", PHONE)]),
    ("tel13812341234", [("phone", PHONE)]),
    ("Mobile13812341234,", [("phone", PHONE)]),
    ("user_13812341234", [("phone", PHONE)]),
    ("微信13812341234", [("phone", PHONE)]),
    ("line\\n13812341234", [("phone", PHONE)]),
    ("1.13812341234 2.13912341234", [("phone", PHONE), ("phone", "13912341234")]),
    ("**13812341234**", [("phone", PHONE)]),
    ("13812341234 13912341234", [("phone", PHONE), ("phone", "13912341234")]),
    ("13812341234/6222020000000000000", [("phone", PHONE), ("pan", PAN)]),
    ("6222020000000000000 13812341234", [("pan", PAN), ("phone", PHONE)]),
    ("138 1234 4567 6222 0200 0000 0000 000", [("phone", "138 1234 4567"), ("pan", "6222 0200 0000 0000 000")]),
    ("4567 6222 0200 0000 0000 000", [("pan", "6222 0200 0000 0000 000")]),
    ("６２２２ ０２００ ００００ ００００ ０００", [("pan", "６２２２ ０２００ ００００ ００００ ０００")]),
    ("PAN4111111111111111", [("pan", "4111111111111111")]),
    ("4111111111111111exp", [("pan", "4111111111111111")]),
    ("4111.1111.1111.1111", [("pan", "4111.1111.1111.1111")]),
    ("3782 822463 10005", [("pan", "3782 822463 10005")]),
    ("8171 9999 2766 0000", [("pan", "8171 9999 2766 0000")]),
    ("6222020000000000001", [("pan", "6222020000000000001")]),
    ("4111111111111111 5500005555555559", [("pan", "4111111111111111"), ("pan", "5500005555555559")]),
    ("卡号4111111111111111", [("pan", "4111111111111111")]),
    ("身份证11010519491231002X邮箱", [("resident_id", RESIDENT_ID)]),
    ("id11010519491231002x", [("resident_id", "11010519491231002x")]),
    ("110105 19491231 002X", [("resident_id", "110105 19491231 002X")]),
    ("110105 19491231 002-X", [("resident_id", "110105 19491231 002-X")]),
    ("１１０１０５１９４９１２３１００２Ｘ", [("resident_id", "１１０１０５１９４９１２３１００２Ｘ")]),
    ("360426199101010071", [("resident_id", "360426199101010071")]),
    ("11010519491231002X13812341234", [("resident_id", RESIDENT_ID), ("phone", PHONE)]),
    ("账号：12345678901", [("bank_account", "12345678901")]),
    ("收款帐户 1234 5678 9012 3456", [("bank_account", "1234 5678 9012 3456")]),
    ("Acct no. 12345678", [("bank_account", "12345678")]),
    ("account 13812341234", [("bank_account", PHONE)]),
    ("账号 12345678 13812341234", [("bank_account", "12345678"), ("phone", PHONE)]),
    ("银行卡6222020000000000000", [("pan", PAN)]),
    ("DE89 3704 0044 0532 0130 00", [("bank_account", "DE89 3704 0044 0532 0130 00")]),
    ("付GB29NWBK60161331926819，谢谢", [("bank_account", "GB29NWBK60161331926819")]),
    ("IBANDE89370400440532013000", [("bank_account", "DE89370400440532013000")]),
    ("DE89370400440532013000 13812341234", [("bank_account", "DE89370400440532013000"), ("phone", PHONE)]),
    ("邮箱zhang.san@example.com联系", [("email", "zhang.san@example.com")]),
    ("<o_b+c@sub.example.co.uk>.", [("email", "o_b+c@sub.example.co.uk")]),
    ("ｚｈａｎｇ＠ｅｘａｍｐｌｅ．ｃｏｍ", [("email", "ｚｈａｎｇ＠ｅｘａｍｐｌｅ．ｃｏｍ")]),
    ("josé@example.com", [("email", "josé@example.com")]),
    ("a@b.cn,c@d.cn", [("email", "a@b.cn"), ("email", "c@d.cn")]),
    ("13812341234@163.com", [("email", "13812341234@163.com")]),
    ("138 1234 1234@163.com", [("phone", "138 1234 1234")]),
    ("4111 1111 1111 1111abc@x.com", [("pan", "4111 1111 1111 1111"), ("email", "abc@x.com")]),
]


@pytest.mark.parametrize(("text", "expected"), FINDS)
def test_what_is_found(text: str, expected: list[tuple[str, str]]) -> None:
    assert [(found.kind.value, text[found.start : found.end]) for found in find(text, ALL)] == expected
    assert might_hold(text, ALL)


NO_FINDS = [
    "TX13812341234",
    "13812341234abc",
    "12012341234",
    "138123412345",
    "12345138123412341234",
    "20261123060146123",
    "20261123060146",
    "2026-11-23T06:01:46.123+08:00",
    "2026-11-23 06:01:46",
    "1763870506123",
    "1763870506123456789",
    "4200001234202611231234567890",
    "2026112322001412341234567890",
    "88.88",
    "138123412.34",
    "13812341234.00",
    "1,381,234,123.40",
    "113.8123412345, 138.12341234",
    "0.4111111111111111",
    "0.30000000000000004",
    "139.196.123.45",
    "138.123.41.234:8080",
    "Chrome/139.0.7258.138 Safari/537.36",
    "1.2.3, 1.38.12, 3.4.12, 34.0.1",
    "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
    "00:1a:2b:3c:4d:5e",
    "550e8400-e29b-41d4-a716-446655440000",
    "41111111-1111-1111-a716-446655440000",
    "13812341-2341-4111-8111-135123412341",
    hashlib.sha256(b"").hexdigest(),
    "00000a4111111111111111bcdefabcdefa",
    "ab" * 40 + "4111111111111111" + "ab" * 40,
    "MTM4MTIzNDEyMzQxMzgxMjM0MTIzNDEzODEyMzQxMjM0",
    "130123456789012345",
    "284111111111111111",
    "110105194912310021",
    "99010519491231002X",
    "11010519491331002X",
    "6222020000000",
    "4111111111111112",
    "account created 2026-11-23 06:01",
    "TX20261123060146123456",
    "DE88370400440532013000",
    "张三@例子",
    "@example.com",
    "a@b",
    "a@1.2.3.4",
    "a***@example.com",
    "",
]


@pytest.mark.parametrize("text", NO_FINDS)
def test_what_is_not_found(text: str) -> None:
    assert find(text, ALL) == []


@pytest.mark.parametrize("count", range(200))
def test_generated_ids_are_not_found(count: int) -> None:
    digest = hashlib.sha256(str(count).encode()).hexdigest()
    for text in (digest, digest[:32], str(uuid.UUID(digest[:32])), f"trace {digest[:32]}-{digest[40:56]}"):
        assert find(f"id {text}, ok", ALL) == []


def test_only_what_is_asked_for_is_found() -> None:
    text = f"{PHONE} {PAN} {RESIDENT_ID} a@b.cn 账号 12345678"
    for kind in Detector:
        assert {found.kind for found in find(text, frozenset({kind}))} == {kind}
    assert find(text, frozenset()) == []
    assert not might_hold(text, frozenset())


def test_masks() -> None:
    text = f"电话{PHONE}，卡{PAN}，{RESIDENT_ID}，zhang@example.com，账号 1234 5678 9012"
    expected = "电话138****1234，卡622202*********0000，110105********002X，z***@example.com，账号 ********9012"
    assert masked(text, ALL) == expected
    assert masked("nothing here", ALL) == "nothing here"


@pytest.mark.parametrize(
    "text",
    [
        f"1234567+86{PHONE}",
        f"{PAN}.{PHONE}",
        f"{PHONE}@163.com",
        "138 1234 1234@163.com",
        f"x@{PHONE}.com",
        f"{PAN} 3812341 {PHONE}",
        "6222020000001381 2341234",
        f"{RESIDENT_ID}{PHONE}",
        "MT84MALT011000012345MTLCAST001S 3812341234",
        "IBAN GB29 NWBK 6016 1331 9268 19@example.com",
        f"账号 12345678901 5678 {PHONE}",
        f"a@b.cn@c.cn{PHONE}",
        f"ab@c12345678.cn{PHONE}",
        "ab@c.DE89370400440532013000",
    ],
)
def test_masks_leave_nothing_beside_them_to_find(text: str) -> None:
    once = masked(text, ALL)
    assert once != text
    assert masked(once, ALL) == once


def test_much_text_is_read_in_linear_time() -> None:
    # Each of these has a candidate at every place; a search that goes back over the text would take minutes.
    for unit in (
        "4 ",
        "1.",
        "41111111111111111a",
        "@",
        "a@",
        "1 3 8 ",
        "DE89 ",
        "6222 0200 ",
        "a" * 300 + "@",
        "13812341234 a@b.cn ",
    ):
        find(unit * (100_000 // len(unit)), ALL)


# Planting

DIGIT_FORMS = st.sampled_from(["0123456789", "０１２３４５６７８９", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९"])
GAPS = st.sampled_from([" ", "-", "\u3000", "\u2013", "\u200b", "\u00a0", " - ", "\uff0d", "\u2060"])
AROUND = st.sampled_from(
    ["", "，", "：", "付款给张三", "（", "）", "\n", "name=", '"', "/", "；", "元，", "[", "😀", "、"]
)
PROSE = st.text(alphabet="支付宝微信订单号abc，。\n ", max_size=12)


def with_check_digit(digits: str) -> str:
    return next(digits + check for check in "0123456789" if luhn_valid(digits + check))


@st.composite
def phones(draw: st.DrawFn) -> str:
    prefix = draw(st.sampled_from(["", "", "+86", "86", "0086"]))
    return prefix + draw(st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True))


@st.composite
def pans(draw: st.DrawFn) -> str:
    bin_and_length = [
        ("4", 16),
        ("51", 16),
        ("2221", 16),
        ("34", 15),
        ("3528", 16),
        ("6011", 16),
        ("62", 19),
        ("62", 16),
    ]
    start, length = draw(st.sampled_from([*bin_and_length, ("810", 17), ("2200", 16), ("36", 14), ("6759", 18)]))
    count = length - 1 - len(start)
    return with_check_digit(start + draw(st.text(alphabet="0123456789", min_size=count, max_size=count)))


@st.composite
def resident_ids(draw: st.DrawFn) -> str:
    region = draw(st.sampled_from(["110105", "440301", "650102", "820000"]))
    born = draw(st.dates(min_value=datetime.date(1900, 1, 1), max_value=datetime.date(2026, 1, 1)))
    head = f"{region}{born:%Y%m%d}{draw(st.integers(0, 999)):03}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return head + "10X98765432"[sum(w * int(d) for w, d in zip(weights, head, strict=True)) % 11]


EMAILS = st.from_regex(r"[a-z0-9]{1,12}([._+-][a-z0-9]{1,8})?@([a-z][a-z0-9]{0,8}\.){1,2}(com|cn|org)", fullmatch=True)


@st.composite
def rewritten(draw: st.DrawFn, numbers: st.SearchStrategy[str]) -> str:
    """A number in other digits and in any grouping."""
    number = draw(numbers)
    forms = draw(DIGIT_FORMS)
    gap = draw(GAPS)
    cuts = draw(st.sets(st.integers(3, max(3, len(number) - 2)), max_size=4))
    written = ""
    for place, character in enumerate(number):
        if place in cuts and number[place - 1].isdigit() and character.isdigit():
            written += gap
        written += forms[int(character)] if character.isdigit() else character
    return written


PLANTED = st.one_of(rewritten(phones()), rewritten(pans()), rewritten(resident_ids()), EMAILS)


@given(PROSE, AROUND, PLANTED, AROUND, PROSE)
def test_every_planted_character_is_covered(prose: str, before: str, planted: str, after: str, more: str) -> None:
    start = len(prose) + len(before)
    # Letters and what an address may begin with would belong to the value.
    assume(not (prose + before)[-1:].isascii() or (prose + before)[-1:] in '\n"/[= ')
    text = prose + before + planted + after + more
    assume(not text[start + len(planted) :][:1].isascii() or text[start + len(planted) :][:1] in '\n"/[ ')
    covered = {place for found in find(text, ALL) for place in range(found.start, found.end)}
    assert covered == set(range(start, start + len(planted)))
    assert might_hold(text, ALL)


@given(st.lists(PLANTED, min_size=1, max_size=4), st.sampled_from(["，", "/", "\n", "、", "；给"]))
def test_numbers_side_by_side_are_all_covered(planted: list[str], between: str) -> None:
    text = between.join(planted)
    covered = {place for found in find(text, ALL) for place in range(found.start, found.end)}
    assert [place for place in range(len(text)) if place not in covered and text[place] not in between] == []


ANY_TEXT = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="0123456789 -.*xX@+86()abDE账号", max_size=60),
    st.lists(
        st.one_of(PLANTED, AROUND, PROSE, st.sampled_from("*. -@xX1"), st.from_regex(r"[0-9]{1,12}")), max_size=8
    ).map("".join),
)
KINDS = st.frozensets(st.sampled_from(Detector))


@given(ANY_TEXT, KINDS)
def test_finds_are_ordered_and_apart(text: str, kinds: frozenset[Detector]) -> None:
    end = 0
    for found in find(text, kinds):
        assert end <= found.start < found.end <= len(text)
        assert found.kind in kinds
        end = found.end


@given(ANY_TEXT, KINDS)
def test_masking_twice_is_masking_once(text: str, kinds: frozenset[Detector]) -> None:
    once = masked(text, kinds)
    assert masked(once, kinds) == once


@given(ANY_TEXT, KINDS, PROSE)
def test_nothing_is_found_where_nothing_might_be(text: str, kinds: frozenset[Detector], around: str) -> None:
    if not might_hold(around + text + around, kinds):
        assert find(text, kinds) == []


@given(PLANTED)
def test_a_masked_value_is_not_found_again(planted: str) -> None:
    assert find(masked(planted, ALL), ALL) == []
