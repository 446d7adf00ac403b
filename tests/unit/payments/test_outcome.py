"""What is true of every protocol's answers: nothing unclear is called refused or succeeded, and nothing raises."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paymesh.payments.outcome import READ, Fault, Outcome, Reading, media_types, read_outcome, read_status
from paymesh.payments.policy.compiled import Operation, Protocol

PAY, QUERY, REFUND, CLOSE = Operation.PAY, Operation.QUERY, Operation.REFUND, Operation.CLOSE
ABOUT_MONEY = (PAY, QUERY, REFUND, CLOSE)
PROTOCOLS = sorted(READ)
TYPES = (
    None,
    "application/json",
    "text/html;charset=utf-8",
    "text/html; charset=GBK",
    "x/y;charset=ebcdic",
    "nonsense",
)

WORDS = st.sampled_from(
    [
        *[
            "SUCCEEDED",
            "SUCCESS",
            "REFUND",
            "TRADE_SUCCESS",
            "TRADE_FINISHED",
            "TRADE_CLOSED",
            "REFUND_SUCCESS",
            "CLOSED",
            "REFUSED",
            "Y",
            "N",
        ],
        *[
            "10000",
            "10003",
            "20000",
            "40004",
            "00",
            "A6",
            "05",
            "64",
            "SYSTEM_ERROR",
            "ACQ.SYSTEM_ERROR",
            "PARAM_ERROR",
            "SYNC_DIRECT_PAY",
            "x",
        ],
        "2026-11-23 10:00:00",
        "",
    ]
)
NAMES = st.sampled_from(
    [
        *[
            "status",
            "fault",
            "trade_state",
            "trade_status",
            "refund_status",
            "fund_change",
            "retry_flag",
            "gmt_payment",
            "send_pay_date",
        ],
        *["code", "sub_code", "trade_no", "out_trade_no", "qr_code", "code_url", "async_payment_mode"],
    ]
)
VALUES = WORDS | st.none() | st.integers() | st.lists(WORDS, max_size=2) | st.dictionaries(NAMES, WORDS, max_size=2)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=5)
METHODS = ("pay", "precreate", "create", "query", "refund", "close", "cancel", "fastpay_refund_query")
ALIPAY = st.dictionaries(
    st.sampled_from([*(f"alipay_trade_{name}_response" for name in METHODS), "error_response", "sign"]),
    OBJECTS | WORDS,
    max_size=3,
)
FORMS = st.lists(
    st.tuples(st.sampled_from(["respCode", "origRespCode", "respMsg", "RESPCODE", "a{"]), WORDS), max_size=4
)
BODIES = (
    st.binary(max_size=40)
    | (OBJECTS | ALIPAY).map(lambda found: json.dumps(found).encode())
    | FORMS.map(lambda found: "&".join(f"{name}={value}" for name, value in found).encode())
)
SUCCESS_WORDS: dict[Protocol, tuple[bytes, ...]] = {
    Protocol.PAYMESH: (b'"SUCCEEDED"',),
    Protocol.WECHAT_V3: (b'"SUCCESS"', b'"REFUND"'),
    Protocol.ALIPAY_V2: (b'"10000"',),
    Protocol.ALIPAY_V3: (b"TRADE_SUCCESS", b"TRADE_FINISHED", b"send_pay_date", b"REFUND_SUCCESS", b"gmt_payment"),
    Protocol.UNIONPAY: (b"origRespCode=00", b"origRespCode=A6"),
}


@given(
    st.sampled_from(Protocol),
    st.sampled_from(Operation),
    st.integers(100, 599),
    st.none() | BODIES,
    st.sampled_from(TYPES),
)
def test_nothing_raises_and_every_reading_is_consistent(
    protocol: Protocol, operation: Operation, status: int, body: bytes | None, content_type: str | None
) -> None:
    found = read_outcome(protocol, operation, status, body, content_type)
    assert isinstance(found, Reading)
    taken = found.outcome in (Outcome.ACCEPTED, Outcome.SUCCEEDED)
    assert taken == (found.fault is Fault.NONE), "nobody is at fault exactly where it was taken"
    decided = read_status(protocol, operation, status)
    assert decided is None or decided == found


@given(st.sampled_from(PROTOCOLS), st.sampled_from((PAY, QUERY, REFUND)), st.integers(100, 599), BODIES)
@example(Protocol.ALIPAY_V3, REFUND, 200, b'{"trade_no": "1", "fund_change": "Y"}')
def test_no_success_without_a_success_word_of_the_protocol(
    protocol: Protocol, operation: Operation, status: int, body: bytes
) -> None:
    found = read_outcome(protocol, operation, status, body)
    if found.outcome is Outcome.SUCCEEDED:
        words = SUCCESS_WORDS[protocol] + ((b"fund_change", b"retry_flag") if operation is REFUND else ())
        assert 200 <= status < 300
        assert any(word in body for word in words)


@given(st.sampled_from(PROTOCOLS), st.integers(200, 299), BODIES)
def test_a_payment_answered_with_2xx_is_refused_only_by_its_body(protocol: Protocol, status: int, body: bytes) -> None:
    if read_outcome(protocol, PAY, status, body).outcome is Outcome.REFUSED:
        assert body
        assert read_outcome(protocol, PAY, status, None).outcome is Outcome.UNKNOWN


LIES = {
    "not there": None,
    "empty": b"",
    "an error page": b"<html><body>502 Bad Gateway</body></html>",
    "a list": b"[]",
    "another charset": b"\xff\xfe",
    "too deep": b'{"a":' * 99,
    "too long": b'{"status":"SUCCEEDED","trade_state":"SUCCESS","x":"' + b"y" * (1 << 20) + b'"}',
    "a status twice": b'{"status":"SUCCEEDED","status":"REFUSED"}',
    "a status in two cases": b'{"status":"SUCCEEDED","Status":"REFUSED"}',
    "a state twice": b'{"trade_state":"SUCCESS","trade_state":"CLOSED"}',
    "a trade's status twice": b'{"trade_status":"TRADE_SUCCESS","trade_status":"TRADE_CLOSED"}',
    "a code twice": b'{"alipay_trade_pay_response":{"code":"10000","code":"40004"},"sign":"s"}',
    "two answers": b'{"alipay_trade_pay_response":{"code":"10000"},"error_response":{"code":"40002"},"sign":"s"}',
    "one answer twice": b'{"alipay_trade_pay_response":{"code":"10000"},"alipay_trade_pay_response":{"code":"40004"}}',
    "two documents": b'{"status":"SUCCEEDED"}{"status":"REFUSED"}',
    "a byte order mark": b'\xef\xbb\xbf{"status":"SUCCEEDED","trade_status":"TRADE_SUCCESS"}',
    "a response code twice": b"respCode=00&origRespCode=00&respCode=05",
    "a response code in two cases": b"respCode=00&respcode=05",
}


@pytest.mark.parametrize("operation", [PAY, QUERY, REFUND])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("body", LIES.values(), ids=LIES.keys())
def test_a_body_that_lies_is_unknown(protocol: Protocol, operation: Operation, body: bytes | None) -> None:
    found = read_outcome(protocol, operation, 200, body)
    assert (found.outcome, found.fault) == (Outcome.UNKNOWN, Fault.CHANNEL)


@pytest.mark.parametrize("protocol", [Protocol.ALIPAY_V2, Protocol.UNIONPAY])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error":"x"}', b"respCode"])
def test_where_200_says_nothing_a_close_is_unknown_too(protocol: Protocol, body: bytes) -> None:
    assert read_outcome(protocol, CLOSE, 200, body).outcome is Outcome.UNKNOWN


@given(st.sampled_from(PROTOCOLS), st.sampled_from(ABOUT_MONEY), st.integers(100, 599), st.data())
def test_nothing_of_the_body_is_told(
    protocol: Protocol, operation: Operation, status: int, data: st.DataObject
) -> None:
    secret = "s3cret"
    method = data.draw(st.sampled_from(["alipay_trade_pay_response", f"{secret}_response", "x"]))
    told = data.draw(st.dictionaries(NAMES, st.just(secret), min_size=1))
    body = json.dumps({**told, method: {"code": "40004", **told}}).encode()
    form = f"respCode={secret}&{secret}=1&origRespCode={secret}".encode()
    for one in (body, form, f"{{{secret}".encode(), f"[{json.dumps(secret)}]".encode()):
        assert secret not in read_outcome(protocol, operation, status, one).why


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("operation", ABOUT_MONEY)
@pytest.mark.parametrize(
    ("status", "fault"),
    [(409, Fault.MERCHANT), *((status, Fault.CHANNEL) for status in (100, 302, 408, 425, 499, 500, 502, 503, 504))],
)
def test_after_these_the_upstream_may_have_the_payment(
    protocol: Protocol, operation: Operation, status: int, fault: Fault
) -> None:
    body = b'{"status":"SUCCEEDED","code":"PARAM_ERROR","trade_state":"SUCCESS"}'
    found = read_outcome(protocol, operation, status, body)
    assert (found.outcome, found.fault) == (Outcome.UNKNOWN, fault)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("operation", "status", "fault"),
    [
        (PAY, 401, Fault.MERCHANT),
        (PAY, 404, Fault.CHANNEL),
        (PAY, 405, Fault.CHANNEL),
        (PAY, 413, Fault.MERCHANT),
        (PAY, 415, Fault.MERCHANT),
        (PAY, 429, Fault.CHANNEL),
        (REFUND, 404, Fault.MERCHANT),
        (CLOSE, 404, Fault.MERCHANT),
        (CLOSE, 429, Fault.CHANNEL),
    ],
)
def test_these_answer_before_any_order_is_looked_at(
    protocol: Protocol, operation: Operation, status: int, fault: Fault
) -> None:
    found = read_outcome(protocol, operation, status, None)
    assert (found.outcome, found.fault) == (Outcome.REFUSED, fault)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("status", "fault"), [(400, Fault.MERCHANT), (404, Fault.MERCHANT), (429, Fault.CHANNEL), (402, Fault.PAYER)]
)
def test_a_query_that_is_refused_says_nothing_about_its_payment(protocol: Protocol, status: int, fault: Fault) -> None:
    found = read_outcome(protocol, QUERY, status, b'{"code":"ORDER_NOT_EXIST"}')
    assert (found.outcome, found.fault) == (Outcome.UNKNOWN, fault)


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize(
    ("operation", "status", "outcome", "fault"),
    [
        (Operation.NOTIFY, 204, Outcome.ACCEPTED, Fault.NONE),
        (Operation.NOTIFY, 400, Outcome.REFUSED, Fault.MERCHANT),
        (Operation.LOGIN, 429, Outcome.REFUSED, Fault.CHANNEL),
        (Operation.BILL, 502, Outcome.UNKNOWN, Fault.CHANNEL),
        (Operation.OTHER, 408, Outcome.UNKNOWN, Fault.CHANNEL),
    ],
)
def test_where_no_payment_is_asked_for_the_status_says_all(
    protocol: Protocol, operation: Operation, status: int, outcome: Outcome, fault: Fault
) -> None:
    found = read_outcome(protocol, operation, status, None)
    assert (found.outcome, found.fault) == (outcome, fault)


@pytest.mark.parametrize("protocol", sorted(set(Protocol) - READ))
def test_answers_to_notifications_tell_no_outcome_of_a_payment(protocol: Protocol) -> None:
    assert read_outcome(protocol, PAY, 200, b'{"status":"SUCCEEDED"}').outcome is Outcome.UNKNOWN
    assert media_types(protocol) == frozenset()
