"""Owns how the ledger answers: JSON as every generic refusal, with its reason and the request's id in headers."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

from paymesh.payments.denial import Denial, Reason
from paymesh.payments.events.types import OfflineRecorded
from paymesh.payments.internal_names import REQUEST_ID_HEADER
from paymesh.payments.offline.message import write_message
from paymesh.payments.policy.compiled import Protocol
from paymesh.payments.refusals import JSON_TYPE, Addressee, Refusal, Words, words_of, write_refusal, write_words

REFERENCE_CONFLICT = "reference_conflict"
REFERENCE_UNKNOWN = "reference_unknown"
METHOD_UNKNOWN = "method_unknown"
_WORDS: Mapping[str, tuple[int, str]] = {
    REFERENCE_CONFLICT: (409, "this reference was recorded with other content; nothing was recorded"),
    REFERENCE_UNKNOWN: (404, "nothing is recorded under this reference"),
    METHOD_UNKNOWN: (405, "this endpoint has no such method"),
}
"""What only the ledger says; no provider's protocol has words for it."""


def told(record: OfflineRecorded, status: int, request_id: str) -> web.Response:
    """The record itself: 201 a new one, 200 one that was there."""
    return document(write_message(record), status, request_id)


def document(value: object, status: int, request_id: str) -> web.Response:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return web.Response(status=status, body=body, headers={"content-type": JSON_TYPE, REQUEST_ID_HEADER: request_id})


def refused(denial: Denial, request_id: str) -> web.Response:
    return _response(write_refusal(denial, _addressee(request_id)))


def refused_here(reason: str, request_id: str) -> web.Response:
    """For a reason of the ledger's own."""
    status, message = _WORDS[reason]
    words: Words = words_of(Reason.FIELD_INVALID)._replace(status=status, message=message)
    return _response(write_words(words, reason, message, _addressee(request_id)))


def _addressee(request_id: str) -> Addressee:
    return Addressee(Protocol.PAYMESH, request_id, {})


def _response(refusal: Refusal) -> web.Response:
    return web.Response(status=refusal.status, body=refusal.body, headers=dict(refusal.headers))
