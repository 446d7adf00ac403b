"""Owns what a response says about money. Refuses to guess: what is not clearly said is `unknown`.

Accepted is not succeeded: an order was created, money has not moved. Refused means that nothing will come of the
request, so a status after which the upstream may still be at work is unknown. Sources: WeChat Pay v3 "query an order"
(trade_state), "domestic refund" (status) and "error codes", pay.weixin.qq.com/doc/v3/merchant; protocols.md section 4.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.json_body import lookup, parse_json
from paymesh.payments.policy.compiled import Operation, Protocol


class Outcome(enum.StrEnum):
    """What became of an operation, as far as its response tells."""

    ACCEPTED = "accepted"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    UNKNOWN = "unknown"


Reading = tuple[Outcome, str]
"""An outcome and why; the reason holds no value of the response beyond words of the tables below."""

_STILL_OPEN = frozenset({408, 409, 425, 499})
"""Timed out, in progress elsewhere, too early, gave up: the upstream may have the payment."""
_NOT_PROCESSED = frozenset({401, 404, 405, 406, 413, 415, 426, 429, 431})
"""Answered before any order is looked at, whatever the body says."""

_TRADE_STATES: Mapping[str, Outcome] = {
    "SUCCESS": Outcome.SUCCEEDED,
    "REFUND": Outcome.SUCCEEDED,  # it was paid, and a part or all went back since
    "NOTPAY": Outcome.ACCEPTED,
    "USERPAYING": Outcome.ACCEPTED,
    "ACCEPT": Outcome.ACCEPTED,
    "CLOSED": Outcome.REFUSED,
    "REVOKED": Outcome.REFUSED,
    "PAYERROR": Outcome.REFUSED,
}
_REFUND_STATES: Mapping[str, Outcome] = {
    "SUCCESS": Outcome.SUCCEEDED,
    "PROCESSING": Outcome.ACCEPTED,
    "CLOSED": Outcome.REFUSED,
    # ABNORMAL is not here: the refund failed at the bank and a person decides what follows.
}
_PAYMESH_STATES: Mapping[str, Outcome] = {
    "SUCCEEDED": Outcome.SUCCEEDED,
    "ACCEPTED": Outcome.ACCEPTED,
    "PENDING": Outcome.ACCEPTED,
    "REFUSED": Outcome.REFUSED,
}
READ = frozenset({Protocol.WECHAT_V3, Protocol.PAYMESH})
"""Protocols whose answers tell an outcome here."""
_CREATED_ORDER = ("code_url", "prepay_id", "h5_url")
_OPEN_CODES = frozenset(
    # WeChat answers these with a 4xx, but the order may be paid, in progress, or an earlier attempt's.
    {"SYSTEM_ERROR", "SYSTEMERROR", "BANK_ERROR", "BANKERROR", "BIZERR_NEED_RETRY"}
    | {"USERPAYING", "USER_PAYING", "ORDERPAID", "ORDER_PAID", "OUT_TRADE_NO_USED"}
)


def read_status(protocol: Protocol, operation: Operation, status: int) -> Reading | None:
    """What the status alone decides; None when the body has to be read."""
    if operation not in (Operation.PAY, Operation.QUERY, Operation.REFUND, Operation.CLOSE):
        return _read_plain(status)
    if protocol not in READ:
        # Alipay v2 and UnionPay answer 200 whatever became of it, and Alipay v3 has open codes among its 4xx.
        if status in _NOT_PROCESSED:
            return Outcome.REFUSED, f"refused with {status}"
        return Outcome.UNKNOWN, f"{status}, and answers of {protocol} are not read yet"
    if 200 <= status < 300:
        if operation is Operation.CLOSE:
            return Outcome.SUCCEEDED, f"closed ({status})"
        return (Outcome.UNKNOWN, "204 says nothing about the payment") if status == 204 else None
    if not 400 <= status < 500 or status in _STILL_OPEN:
        return Outcome.UNKNOWN, f"after {status} the upstream may still have processed it"
    if operation is Operation.QUERY:
        # Also for 404: the payment asked about may be on its way to the channel.
        return Outcome.UNKNOWN, f"the query was not answered ({status})"
    if protocol is Protocol.WECHAT_V3 and status not in _NOT_PROCESSED:
        return None
    return Outcome.REFUSED, f"refused with {status}"


def read_outcome(protocol: Protocol, operation: Operation, status: int, body: bytes | None) -> Reading:
    """The outcome of an observed response. `body` is None when it was not seen (too long, length unknown, encoded)."""
    decided = read_status(protocol, operation, status)
    if decided is not None:
        return decided
    if body is None:
        return Outcome.UNKNOWN, f"{status}, but the body was not seen"
    try:
        value = parse_json(body, object_only=True).value
    except BodyError as error:
        return Outcome.UNKNOWN, f"{status}, but the body is not readable ({error.kind})"
    if protocol is Protocol.PAYMESH:
        return _read_state(value, "status", _PAYMESH_STATES)
    return _read_wechat(operation, status, value)


def _read_plain(status: int) -> Reading:
    if 200 <= status < 300:
        return Outcome.ACCEPTED, f"answered {status}; no payment was asked for"
    if 400 <= status < 500 and status not in _STILL_OPEN:
        return Outcome.REFUSED, f"refused with {status}"
    return Outcome.UNKNOWN, f"after {status} it may still have been processed"


def _read_wechat(operation: Operation, status: int, value: object) -> Reading:
    if status >= 400:
        code = lookup(value, ("code",))
        if not isinstance(code, str):
            return Outcome.UNKNOWN, f"{status} without a code"
        if code in _OPEN_CODES:
            return Outcome.UNKNOWN, f"{status} with code {code}: the order may be paid or in progress"
        return Outcome.REFUSED, f"refused with {status} and a code"
    if operation is Operation.REFUND:
        return _read_state(value, "status", _REFUND_STATES)
    if operation is Operation.PAY and isinstance(value, dict) and "trade_state" not in value:
        for name in _CREATED_ORDER:
            if isinstance(value.get(name), str) and value[name]:
                return Outcome.ACCEPTED, f"{name} present: an order was created, not paid"
        return Outcome.UNKNOWN, f"{status} without {', '.join(_CREATED_ORDER)} or trade_state"
    return _read_state(value, "trade_state", _TRADE_STATES)


def _read_state(value: object, name: str, states: Mapping[str, Outcome]) -> Reading:
    state = lookup(value, (name,))
    outcome = states.get(state) if isinstance(state, str) else None
    return (Outcome.UNKNOWN, f"no known {name}") if outcome is None else (outcome, f"{name} is {state}")
