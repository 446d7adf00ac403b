"""Owns the OpenAPI 3.1 document of offline payments, written from the rules that check them.

Each of its examples says in `x-answer` how it is answered, and the tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paymesh.payments.events.types import OfflineMethod
from paymesh.payments.fields.currency_codes import ALPHABETIC
from paymesh.payments.internal_names import REASON_HEADER, REQUEST_ID_HEADER
from paymesh.payments.money import MAX_MINOR_UNITS
from paymesh.payments.offline.record import (
    EARLIEST,
    MAX_AHEAD_S,
    MAX_NOTE_CHARS,
    MAX_NUMBER_CHARS,
    NOTE_PATTERN,
    NUMBER_PATTERN,
    ORDER_PATTERN,
    TIME_PATTERN,
)

PATH = "/v1/offline-payments"
_Json = dict[str, Any]
_CASH: _Json = {
    "reference": "R-20260301-0001",
    "amount": {"total": 8800, "currency": "CNY"},
    "method": "cash",
    "paid_at": "2026-03-01T12:30:00+08:00",
}
EXAMPLES: Mapping[str, _Json] = {
    "cash": {"summary": "The least that is told", "value": _CASH, "x-answer": {"status": 201}},
    "terminal": {
        "summary": "Everything that may be told",
        "value": _CASH
        | {"reference": "POS-7-991", "method": "card_terminal", "order_no": "ORDER-4711", "store": "S12"}
        | {"terminal": "POS-7", "note": "Table 3, paid together"},
        "x-answer": {"status": 201},
    },
    "decimals": {
        "summary": "An amount in yuan: refused",
        "value": _CASH | {"amount": {"total": 88.5, "currency": "CNY"}},
        "x-answer": {"status": 400, "code": "field_invalid", "fields": ["/amount/total"]},
    },
    "local_time": {
        "summary": "A time without its offset, and an unknown method: both are told",
        "value": _CASH | {"paid_at": "2026-03-01 12:30:00", "method": "barter"},
        "x-answer": {"status": 400, "code": "field_invalid", "fields": ["/method", "/paid_at"]},
    },
    "person": {
        "summary": "A note with somebody's e-mail address: refused",
        "value": _CASH | {"note": "receipt to payer@example.com"},
        "x-answer": {"status": 400, "code": "field_invalid", "fields": ["/note"]},
    },
    "unknown_member": {
        "summary": "A member that nobody would read: refused",
        "value": _CASH | {"payer": "somebody"},
        "x-answer": {"status": 400, "code": "field_invalid", "fields": ["/"]},
    },
}


def openapi() -> _Json:
    """The document, as `GET /v1/offline-payments/openapi.json` answers it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Offline payments",
            "version": "1",
            "description": "A merchant records payments that were taken elsewhere. Each has a reference of the "
            "merchant's own; telling the same again is answered with the first record, so a request that had no "
            "answer is simply repeated.",
        },
        "paths": {PATH: {"post": _post()}, f"{PATH}/{{reference}}": {"get": _get()}},
        "security": [{"hmac": []}, {"http_signature": []}, {"jwt": []}],
        "components": {"schemas": _schemas(), "securitySchemes": _security()},
    }


def _post() -> _Json:
    content = {"schema": _ref("OfflinePayment"), "examples": dict(EXAMPLES)}
    return {
        "operationId": "recordOfflinePayment",
        "summary": "Record a payment that was taken elsewhere",
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {
            "201": _answer("Recorded, for good: it is durable before this is said", "OfflineRecord"),
            "200": _answer("Recorded before with the same content: the first record", "OfflineRecord"),
            "400": _refusal("`body_malformed`, or `field_invalid`: every field that is wrong, with its JSON pointer"),
            "401": _refusal("The request is not authenticated"),
            "403": _refusal("The merchant may not do this"),
            "409": _refusal("`reference_conflict`: the reference was used with other content; nothing was recorded"),
            "413": _refusal("`body_too_large`"),
            "415": _refusal("`content_unsupported`: not application/json in UTF-8"),
            "503": _refusal("`unavailable`: it may have been recorded or not; repeat it"),
        },
    }


def _get() -> _Json:
    reference = {"name": "reference", "in": "path", "required": True, "schema": _number("The merchant's own number")}
    return {
        "operationId": "getOfflinePayment",
        "summary": "The record of a reference of this merchant",
        "parameters": [reference],
        "responses": {
            "200": _answer("The record", "OfflineRecord"),
            "401": _refusal("The request is not authenticated"),
            "403": _refusal("The merchant may not do this"),
            "404": _refusal("`reference_unknown`"),
            "503": _refusal("`unavailable`"),
        },
    }


def _schemas() -> _Json:
    amount = {
        "type": "object",
        "required": ["total", "currency"],
        "additionalProperties": False,
        "properties": {
            "total": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_MINOR_UNITS,
                "description": "In minor units: 8800 is 88 yuan. Written without a point or an exponent.",
            },
            "currency": {"type": "string", "enum": sorted(ALPHABETIC), "description": "ISO 4217"},
        },
    }
    required = ["reference", "amount", "method", "paid_at"]
    told: _Json = {
        "reference": _number("The merchant's own number of the payment; one record of each"),
        "amount": _ref("Amount"),
        "method": {"type": "string", "enum": [str(method) for method in OfflineMethod]},
        "paid_at": {
            "type": "string",
            "format": "date-time",
            "pattern": TIME_PATTERN,
            "description": f"When it was paid, with an offset; from {EARLIEST.year} on, at most {MAX_AHEAD_S} s ahead. "
            "Fractions of a second are dropped.",
        },
        "order_no": _number("The order it pays, where there is one", ORDER_PATTERN),
        "store": _number("Where it was taken"),
        "terminal": _number("The till or terminal"),
        "note": {
            "type": "string",
            "pattern": NOTE_PATTERN,
            "maxLength": MAX_NOTE_CHARS,
            "description": "One line. Card, account, phone and identity numbers and e-mail addresses are refused; "
            "names do not belong here.",
        },
    }
    record = {
        "id": {"type": "string", "description": "Of the record, and of its event"},
        "recorded_at": {"type": "string", "format": "date-time"},
        "merchant": {"type": "string"},
    }
    refusal = {"code": {"type": "string", "description": f"As in {REASON_HEADER}"}, "message": {"type": "string"}}
    return {
        "Amount": amount,
        "OfflinePayment": _object(told, required),
        "OfflineRecord": _object({**record, **told}, [*record, *required]),
        "Refusal": {"type": "object", "required": list(refusal), "properties": refusal},
    }


def _object(properties: _Json, required: list[str]) -> _Json:
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties}


def _number(description: str, pattern: str = NUMBER_PATTERN) -> _Json:
    told = f"{description}. Not what looks like a card or identity number."
    return {"type": "string", "pattern": pattern, "maxLength": MAX_NUMBER_CHARS, "description": told}


def _security() -> _Json:
    def header(name: str, description: str) -> _Json:
        return {"type": "apiKey", "in": "header", "name": name, "description": description}

    return {
        "hmac": header("Paymesh-Signature", "With Paymesh-Key, Paymesh-Timestamp and Paymesh-Nonce"),
        "http_signature": header("Signature", "RFC 9421, with content-digest among what is covered"),
        "jwt": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    }


def _ref(name: str) -> _Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: str) -> _Json:
    headers = {REQUEST_ID_HEADER: {"schema": {"type": "string"}, "description": "Of the request, for the operator"}}
    return {
        "description": description,
        "headers": headers,
        "content": {"application/json": {"schema": _ref(schema)}},
    }


def _refusal(description: str) -> _Json:
    answer = _answer(description, "Refusal")
    reason = {"schema": {"type": "string"}, "description": "The same as `code`"}
    return {**answer, "headers": {**answer["headers"], REASON_HEADER: reason}}
