"""Kinds against the vectors, at their bounds, and that no problem repeats a value."""

import datetime
import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.fields.kinds import problem, seconds_of
from paymesh.payments.policy.field_rules import Kind

VECTORS = json.loads((Path(__file__).parent / "vectors" / "sanitization.json").read_text())
VECTOR_KINDS = {"cn_mobile": Kind.PHONE, "cn_ric": Kind.RESIDENT_ID, "cn_uscc": Kind.USCC}
VALID_KEYS = {"cn_mobile": "phonenumbers_9_0_43_valid", "cn_ric": "stdnum_valid", "cn_uscc": "stdnum_valid"}


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS if v["kind"] in VECTOR_KINDS], ids=lambda v: f"{v['kind']}-{v['value']}"
)
def test_the_vectors(vector: dict[str, object]) -> None:
    name = str(vector["kind"])
    assert (problem(VECTOR_KINDS[name], vector["value"]) is None) == vector[VALID_KEYS[name]]


VALID = {
    Kind.ORDER_NO: ["1", "A" * 64, "20261123_~!"],
    Kind.AMOUNT: [1, 10**13, "1", "10000000000000", "0.01", "88.8", "88.88", "100000000000.00"],
    Kind.CURRENCY: ["CNY", "USD", "JPY", "KWD", "156", "840", "008"],
    Kind.PAN: ["4111 1111 1111 1111", "6222020000000000001", "６２２２０２００００００００００００１"],
    Kind.PHONE: ["13812341234", "+86 138-1234-1234", "0086 17400001234", "+85291234567", "+1 415 555 2671"],
    Kind.RESIDENT_ID: ["11010519491231002X", "１１０１０５１９４９１２３１００２ｘ", "110105 19491231 002X"],
    Kind.USCC: ["91110000600037341L"],
    Kind.BANK_ACCOUNT: ["123456", "6222 0200-1234", "DE89370400440532013000", "1" * 32],
    Kind.IP: ["127.0.0.1", "::1", "2001:db8::8a2e:370:7334", "::ffff:10.0.0.1"],
    Kind.EMAIL: [
        "a@b.co",
        "a+b_c.d@sub.example.com",
        "o'brien@example.com",
        "用户@例子.中国",
        "josé@xn--fsqu00a.xn--fiqs8s",
        "a" * 64 + "@example.com",
    ],
    Kind.URL: ["https://example.com", "http://[::1]:8080/a?b=c#d", "HTTPS://例子.中国/路", "https://a.b/" + "c" * 2036],
    Kind.TIMESTAMP: [
        "2026-11-23T06:01:46Z",
        "2026-11-23t06:01:46.123456789+08:00",
        "2026-11-23 06:01:46",
        "20261123060146",
        1763870506,
        1763870506123,
        "1763870506",
    ],
}
INVALID = {
    Kind.ORDER_NO: ["", "a b", "A" * 65, "订单", "a\n", 1, None],
    Kind.AMOUNT: [
        0,
        -1,
        10**13 + 1,
        True,
        Decimal("1.00"),
        1.0,
        "0",
        "0.00",
        "1.234",
        "1e3",
        "-1",
        "+1",
        " 1",
        "1.",
        ".5",
        "１",
        "10000000000001",
        "100000000000.01",
        "",
        None,
        [],
        {},
    ],
    Kind.CURRENCY: ["cny", "RMB", "XXX", "XAU", "000", "15", "CNY ", "", 156, None],
    Kind.PAN: ["4111111111111112", "622202000000", "1234567890123456", "4111.1111.1111.1111", 4111111111111111, ""],
    Kind.PHONE: [
        "15412341234",
        "14012341234",
        "17912341234",
        "17412341234",
        "+8615412341234",
        "+861012345678",
        "+123456",
        "+1234567890123456",
        "010-12345678",
        "13812341234\n",
        13812341234,
        "",
        None,
    ],
    Kind.RESIDENT_ID: ["110105194912310021", "99010519491231002X", "11010519491231002", 11010519491231002, "", None],
    Kind.USCC: ["91110000600037341l", "91110000600037341", "91110000600037I41L", "", None],
    Kind.BANK_ACCOUNT: ["12345", "1" * 33, "1234.5678", "账号12345678", "", 12345678],
    Kind.IP: ["256.0.0.1", "1.2.3", "01.2.3.4", "fe80::1%eth0", "1.2.3.4:80", "10.0.0.0/8", "", 2130706433],
    Kind.EMAIL: [
        "a",
        "a@",
        "@b.co",
        "a@b",
        "a@@b.co",
        "a@b@c.co",
        ".a@b.co",
        "a.@b.co",
        "a..b@c.co",
        "a b@c.co",
        "a@-b.co",
        "a@b..co",
        "a@b.co.",
        "a@127.0.0.1",
        "a\u200b@b.co",
        "a\x00@b.co",
        "a" * 65 + "@b.co",
        "a@" + "b" * 64 + ".co",
        None,
    ],
    Kind.URL: [
        "example.com",
        "//example.com",
        "ftp://example.com",
        "javascript:alert(1)",
        "http://",
        "http:///path",
        "",
        "http://u:p@example.com",
        "http://u@example.com",
        "http://a b.com",
        "http://a.com/\n",
        "http://a.com\\@b.com",
        "http://a.com:99999",
        "http://a.com:x",
        "http://[::1",
        "https://a.b/" + "c" * 2037,
        None,
    ],
    Kind.TIMESTAMP: [
        "2026-11-23",
        "2026-11-23T06:01:46",
        "2026-02-30T00:00:00Z",
        "2026-11-23 25:00:00",
        "20261323060146",
        "2026-11-23T06:01:46+24:00",
        "2026-11-23T06:01:61Z",
        "2026-11-23 06:01:46Z",
        176387050,
        True,
        1763870506.5,
        "",
        None,
        Decimal("1763870506.5"),
        10**400,
    ],
}


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in VALID.items() for value in values])
def test_valid(kind: Kind, value: object) -> None:
    assert problem(kind, value) is None


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in INVALID.items() for value in values])
def test_invalid(kind: Kind, value: object) -> None:
    assert problem(kind, value) is not None


def test_every_kind_is_tried() -> None:
    assert set(VALID) == set(INVALID) == set(Kind)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@given(st.sampled_from(Kind), TREES)
def test_a_problem_is_a_constant(kind: Kind, value: object) -> None:
    assert problem(kind, value) in (None, problem(kind, None))


@given(st.sampled_from(Kind), st.text(alphabet="0123456789+-.:TZ@/hps[]aé \ud800\u200b", max_size=40))
def test_no_text_makes_a_kind_raise(kind: Kind, value: str) -> None:
    problem(kind, value)


def test_a_date_of_birth_is_not_in_the_future() -> None:
    assert problem(Kind.RESIDENT_ID, "11010519491231002X", datetime.date(1949, 12, 31)) is None
    assert problem(Kind.RESIDENT_ID, "11010519491231002X", datetime.date(1949, 12, 30)) is not None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        # date -u -d 2026-11-23T06:01:46Z +%s
        ("2026-11-23T06:01:46Z", 1795413706),
        ("2026-11-23T14:01:46.999+08:00", 1795413706),
        ("2026-11-22T22:31:46-07:30", 1795413706),
        ("2026-11-23 14:01:46", 1795413706),
        ("20261123140146", 1795413706),
        (1795413706, 1795413706),
        (1795413706999, 1795413706),
        ("1795413706999", 1795413706),
        ("2016-12-31T23:59:60Z", 1483228800),
        ("2016-12-31T23:59:59Z", 1483228799),
        ("0001-01-01T00:00:00+23:59", -62135683140),
        ("tomorrow", None),
        (None, None),
    ],
)
def test_seconds(value: object, seconds: int | None) -> None:
    assert seconds_of(value) == seconds


@given(st.integers(-(10**9), 3 * 10**9), st.integers(-1439, 1439))
def test_rfc_3339_is_read_as_python_writes_it(seconds: int, offset: int) -> None:
    there = datetime.datetime.fromtimestamp(seconds, datetime.timezone(datetime.timedelta(minutes=offset)))
    assert seconds_of(there.isoformat()) == seconds
