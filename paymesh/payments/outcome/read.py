"""Owns which protocol's reader reads an answer. Refuses to guess: what is not clearly said is unknown; and to verify:
whether an answer is the provider's own is for whoever holds its key.

Accepted is not succeeded: an order was created, money has not moved (protocols.md section 4).
"""

from __future__ import annotations

from collections.abc import Mapping

from paymesh.payments.outcome.alipay_v2 import ALIPAY_V2
from paymesh.payments.outcome.alipay_v3 import ALIPAY_V3
from paymesh.payments.outcome.generic import PAYMESH
from paymesh.payments.outcome.reading import Answer, Reader, Reading, unknown
from paymesh.payments.outcome.statuses import read_without_money
from paymesh.payments.outcome.unionpay import UNIONPAY
from paymesh.payments.outcome.wechat_v3 import WECHAT_V3
from paymesh.payments.policy.compiled import Operation, Protocol

_READERS: Mapping[Protocol, Reader] = {
    Protocol.WECHAT_V3: WECHAT_V3,
    Protocol.ALIPAY_V2: ALIPAY_V2,
    Protocol.ALIPAY_V3: ALIPAY_V3,
    Protocol.UNIONPAY: UNIONPAY,
    Protocol.PAYMESH: PAYMESH,
}
READ = frozenset(_READERS)
"""Protocols whose answers tell an outcome here: all but those of notifications, which ask for no payment."""
_ABOUT_MONEY = frozenset({Operation.PAY, Operation.QUERY, Operation.REFUND, Operation.CLOSE})


def read_status(protocol: Protocol, operation: Operation, status: int) -> Reading | None:
    """What the status alone decides; None when the body has to be read."""
    if operation not in _ABOUT_MONEY:
        return read_without_money(status)
    reader = _READERS.get(protocol)
    if reader is None:
        return unknown(f"{status}, and answers of {protocol} tell no outcome")
    return reader.read_status(operation, status)


def read_outcome(
    protocol: Protocol, operation: Operation, status: int, body: bytes | None, content_type: str | None = None
) -> Reading:
    """What an observed response says. `body` is None when it was not seen (too long, length unknown, encoded);
    `content_type` as it came, for a charset that is not UTF-8. Never raises, and nothing of the body is told."""
    decided = read_status(protocol, operation, status)
    if decided is not None:
        return decided
    if body is None:
        return unknown(f"{status}, but the body was not seen")
    return _READERS[protocol].read_body(Answer(operation, status, body, content_type))


def media_types(protocol: Protocol) -> frozenset[str]:
    """What answers of this protocol call themselves; of others none is read."""
    reader = _READERS.get(protocol)
    return frozenset() if reader is None else reader.media_types
