"""Owns recording how an attempt ended, before its caller hears it.

Refuses to break an answer: what the event log cannot take now, ext_authz records when the access log tells it, or its
reaper does; the answer passes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from ext_proc.messages import Answer, AnswerHeaders, Checked, Continue, Reply
from paymesh.payments.denial import Unavailable
from paymesh.payments.events.log import EventLog
from paymesh.payments.events.types import Ended, ToldBy, result_of
from paymesh.payments.outcome import Fault, Outcome
from paymesh.payments.policy.compiled import Operation

_LOG = logging.getLogger("ext_proc")


class Endings:
    """What is certain of an answer. `events` None: no record is kept."""

    def __init__(self, events: EventLog | None) -> None:
        self._events = events
        self._away = False

    async def record(self, checked: Checked | None, replies: Sequence[Reply]) -> bool:
        """Whether these replies tell how a recorded attempt ended, and it is written down for good. What was begun
        goes on, if the stream is cancelled."""
        if self._events is None or checked is None or not checked.recorded:
            return False
        outcome, fault = _told(replies)
        # Envoy may have answered itself: whether a service has seen the request its access log knows.
        if outcome in (None, Outcome.UNKNOWN):
            return False
        ended = Ended(
            attempt_id=checked.request_id,
            at_us=time.time_ns() // 1000,
            operation=Operation(checked.operation),
            result=result_of(outcome),
            told_by=ToldBy.ANSWER,
            why="as the answer says",
            fault="" if fault is Fault.NONE else fault.value,
        )
        try:
            await self._events.end(ended)
        except Unavailable as error:
            if not self._away:
                _LOG.error("ends are not recorded", extra={"fields": {"error": str(error)}})
            self._away = True
            return False
        self._away = False
        return True


def _told(replies: Sequence[Reply]) -> tuple[Outcome | None, Fault]:
    for reply in replies:
        if isinstance(reply, Continue | AnswerHeaders | Answer) and reply.outcome is not None:
            return reply.outcome, reply.fault
    return None, Fault.NONE
