"""Owns what the end of an exchange says about the service that answered: that it works, that it fails, or nothing.

A payment's outcome counts, not the answer's status: a service that politely says no to every payer works, and one whose
200 says that a bank is away does not. What is the payer's or the merchant's fault says nothing about the service.
"""

from __future__ import annotations

from paymesh.payments.outcome import Fault, Outcome
from paymesh.server.access_log import Finished

_WORKS = frozenset({Outcome.SUCCEEDED, Outcome.ACCEPTED})
_OUT_OF_REACH = frozenset({"UF", "UH", "UO", "UT", "URX", "LH", "DF"})
"""Envoy's flags where nothing was sent: no host, none healthy, none connected, too much under way there."""
_BROKE_OFF = frozenset({"UT", "UC", "UR", "UPE", "SI", "DT", "UMSDR"})
"""Envoy's flags of a service that did not answer, or stopped in the middle."""
_SERVER_ERROR = 500


def service_works(exchange: Finished) -> bool | None:
    """None: it says nothing about the service."""
    if not exchange.reached_service:
        return False if exchange.flags & _OUT_OF_REACH else None  # else the client went, or we had no room
    if exchange.outcome in _WORKS:
        return True
    if exchange.fault:
        return False if exchange.fault == Fault.CHANNEL else None
    if exchange.outcome == Outcome.REFUSED:
        return None
    # Nobody read an answer: there was none, or it is not read on this route.
    return False if exchange.flags & _BROKE_OFF or exchange.status >= _SERVER_ERROR else None


def request_failed(exchange: Finished) -> bool:
    """Answered with 500 or above, or not at all though the client waited."""
    return exchange.status >= _SERVER_ERROR or bool(exchange.flags & (_OUT_OF_REACH | _BROKE_OFF))
