"""What UnionPay's answers say; above all that no text of the merchant's in them is taken for a code."""

import pytest

from paymesh.payments.outcome import Fault, Outcome, read_outcome
from paymesh.payments.policy.compiled import Operation, Protocol

UNIONPAY = Protocol.UNIONPAY
PAY, QUERY, REFUND, CLOSE = Operation.PAY, Operation.QUERY, Operation.REFUND, Operation.CLOSE
ACCEPTED, SUCCEEDED = (Outcome.ACCEPTED, Fault.NONE), (Outcome.SUCCEEDED, Fault.NONE)
BY_PAYER, BY_MERCHANT, BY_CHANNEL = ((Outcome.REFUSED, fault) for fault in (Fault.PAYER, Fault.MERCHANT, Fault.CHANNEL))
OPEN, OPEN_BY_PAYER, OPEN_BY_MERCHANT = (
    (Outcome.UNKNOWN, fault) for fault in (Fault.CHANNEL, Fault.PAYER, Fault.MERCHANT)
)
HTML = "text/html;charset=UTF-8"
AROUND = "version=5.1.0&encoding=UTF-8&{}&respMsg=成功[0000000]&signature=a+b/c=="


@pytest.mark.parametrize(
    ("operation", "codes", "expected"),
    [
        (PAY, "respCode=00", ACCEPTED),  # taken: the result is notified
        (PAY, "respCode=00&tn=201611231000", ACCEPTED),
        (PAY, "respCode=A6", ACCEPTED),
        (PAY, "respCode=05", ACCEPTED),
        (PAY, "respCode=03", OPEN),
        (PAY, "respCode=04", OPEN),
        (PAY, "respCode=06", OPEN),
        (PAY, "respCode=98", OPEN),
        (PAY, "respCode=99", OPEN),
        (PAY, "respCode=ZZ", OPEN),
        (PAY, "respCode=", OPEN),
        (PAY, "tn=1", OPEN),
        (PAY, "respCode=00&origRespCode=00", OPEN),
        (PAY, "respCode=01", BY_CHANNEL),
        (PAY, "respCode=02", BY_CHANNEL),
        (PAY, "respCode=37", BY_CHANNEL),
        (PAY, "respCode=10", BY_MERCHANT),
        (PAY, "respCode=11", BY_MERCHANT),
        (PAY, "respCode=33", BY_MERCHANT),
        (PAY, "respCode=12", OPEN_BY_MERCHANT),
        (PAY, "respCode=42", OPEN_BY_PAYER),
        (PAY, "respCode=60", BY_PAYER),
        (PAY, "respCode=64", BY_PAYER),
        (PAY, "respCode=65", BY_PAYER),
        (PAY, "respCode=73", BY_PAYER),
        (REFUND, "respCode=00", ACCEPTED),
        (REFUND, "respCode=34", BY_MERCHANT),
        (REFUND, "respCode=35", BY_MERCHANT),
        (REFUND, "respCode=45", OPEN_BY_MERCHANT),
        (REFUND, "respCode=03", OPEN),
        (CLOSE, "respCode=00", ACCEPTED),
        (CLOSE, "respCode=46", OPEN_BY_MERCHANT),
        (QUERY, "respCode=00&origRespCode=00", SUCCEEDED),
        (QUERY, "respCode=00&origRespCode=A6", SUCCEEDED),
        (QUERY, "respCode=00&origRespCode=05", ACCEPTED),
        (QUERY, "respCode=00&origRespCode=03", OPEN),
        (QUERY, "respCode=00&origRespCode=04", OPEN),
        (QUERY, "respCode=00&origRespCode=64", BY_PAYER),
        (QUERY, "respCode=00&origRespCode=01", BY_CHANNEL),
        (QUERY, "respCode=00&origRespCode=36", BY_MERCHANT),
        (QUERY, "respCode=00&origRespCode=42", OPEN_BY_PAYER),
        (QUERY, "respCode=00", OPEN),
        (QUERY, "respCode=34", OPEN_BY_MERCHANT),  # it may be on its way
        (QUERY, "respCode=34&origRespCode=00", OPEN_BY_MERCHANT),
        (QUERY, "respCode=05&origRespCode=00", OPEN),
        (QUERY, "respCode=64", OPEN_BY_PAYER),
        (QUERY, "origRespCode=00", OPEN),
    ],
)
def test_read(operation: Operation, codes: str, expected: tuple[Outcome, Fault]) -> None:
    found = read_outcome(UNIONPAY, operation, 200, AROUND.format(codes).encode(), HTML)
    assert (found.outcome, found.fault) == expected


@pytest.mark.parametrize(
    "codes",
    [
        "respCode=00&origRespCode=05&origRespCode=00",
        "reqReserved=x&origRespCode=00&respCode=00&origRespCode=05",
        "customerInfo={a=1&origRespCode=00}&respCode=00",
        "reqReserved=[x&origRespCode=00&respCode=00",
        "reqReserved=]x&origRespCode=00&respCode=00",
        "respCode=00&origRespCode=00&OrigRespCode=05",
        "respCode=00& origRespCode=00",
        "respCode=00&origResp%43ode=05&origRespCode=00",
        "respCode=00&origRespCode=0%30",
    ],
)
def test_codes_that_could_be_cut_otherwise_say_nothing(codes: str) -> None:
    found = read_outcome(UNIONPAY, QUERY, 200, AROUND.format(codes).encode(), HTML)
    assert (found.outcome, found.fault) == OPEN


def test_texts_of_the_merchant_are_left_alone() -> None:
    body = "reqReserved={note=a&b=c}&respCode=00&origRespCode=00&respMsg=a%b&riskInfo=[x{y}]"
    assert read_outcome(UNIONPAY, QUERY, 200, body.encode(), HTML).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("content_type", "charset", "expected"),
    [
        (HTML, "utf-8", ACCEPTED),
        ("application/x-www-form-urlencoded", "utf-8", ACCEPTED),
        ("text/html; charset=GBK", "gbk", ACCEPTED),
        (None, "utf-8", ACCEPTED),
        (HTML, "gbk", OPEN),
        ("text/html;charset=latin-1", "utf-8", OPEN),
        ("text html", "utf-8", OPEN),
    ],
)
def test_charsets(content_type: str | None, charset: str, expected: tuple[Outcome, Fault]) -> None:
    body = AROUND.format("respCode=00").encode(charset)
    found = read_outcome(UNIONPAY, PAY, 200, body, content_type)
    assert (found.outcome, found.fault) == expected


@pytest.mark.parametrize("more", [b"&x=" + b"y" * (1 << 20), b"&y=1" * 200])
def test_a_body_without_end_is_not_read(more: bytes) -> None:
    assert read_outcome(UNIONPAY, PAY, 200, b"respCode=00" + more, HTML).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("status", "expected"), [(201, OPEN), (204, OPEN), (400, OPEN), (401, BY_MERCHANT), (404, BY_CHANNEL), (503, OPEN)]
)
def test_it_answers_with_200_only(status: int, expected: tuple[Outcome, Fault]) -> None:
    found = read_outcome(UNIONPAY, PAY, status, b"respCode=00", HTML)
    assert (found.outcome, found.fault) == expected
