"""Owns the ledger's HTTP endpoints: recording an offline payment, reading one, and their OpenAPI document.

Refuses a request that did not come through the gateway (503): who the merchant is stands in `x-pay-merchant`, which
Envoy removes from what clients send and ext_authz writes. A record is durable before it is confirmed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from paymesh.ledger import answers
from paymesh.payments.bodies.content_type import parse_content_type
from paymesh.payments.bodies.errors import BodyError, BodyErrorKind, body_denial
from paymesh.payments.denial import Denial, Reason, Unavailable
from paymesh.payments.events.log import EventLog
from paymesh.payments.events.types import OfflineRecorded, ToldBy
from paymesh.payments.internal_names import MERCHANT_HEADER
from paymesh.payments.offline.message import LIMITS, read_message
from paymesh.payments.offline.openapi import PATH, openapi
from paymesh.payments.offline.record import Teller, may_be_reference
from paymesh.server.logs import describe_error
from paymesh.server.trace import parse_traceparent, set_trace

_LOG = logging.getLogger(__name__)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_NOT_OURS = Denial(Reason.UNAVAILABLE, f"no {MERCHANT_HEADER}: it did not come through the gateway")


class OfflinePayments:
    """`now_us`: microseconds since 1970."""

    def __init__(self, events: EventLog, now_us: Callable[[], int], registry: CollectorRegistry) -> None:
        self._events = events
        self._now_us = now_us
        self._openapi = openapi()
        self._answers = Counter(
            "paymesh_offline_payments",
            "Requests to record an offline payment, by how they were answered.",
            ["answer"],
            registry=registry,
        )

    async def record(self, request: web.Request) -> web.Response:
        """POST: 201 recorded, 200 it was there, 409 with other content, 4xx what is wrong, 503 not known: repeat it."""
        answer, response = await self._record(request)
        self._answers.labels(answer=answer).inc()
        _tell(request, answer)
        return response

    async def show(self, request: web.Request) -> web.Response:
        """GET: the record of a reference of this merchant; 404 for another one's, too."""
        merchant, reference = _merchant(request), request.match_info["reference"]
        if merchant is None:
            _tell(request, "no_merchant")
            return answers.refused(_NOT_OURS, _request_id(request))
        record = await self._events.recorded(merchant, reference) if may_be_reference(reference) else None
        if record is None:
            return answers.refused_here(answers.REFERENCE_UNKNOWN, _request_id(request))
        return answers.told(record, 200, _request_id(request))

    async def describe(self, request: web.Request) -> web.Response:
        """GET openapi.json."""
        return answers.document(self._openapi, 200, _request_id(request))

    async def _record(self, request: web.Request) -> tuple[str, web.Response]:
        request_id, merchant = _request_id(request), _merchant(request)
        if merchant is None:
            return "no_merchant", answers.refused(_NOT_OURS, request_id)
        told = await self._read(request, merchant)
        if isinstance(told, Denial):
            return str(told.reason), answers.refused(told, request_id)
        # Whoever hangs up, and a drain that ends while it is written, stop nothing.
        first = await asyncio.shield(self._events.record(told))
        if first is None:
            return "created", answers.told(told, 201, request_id)
        if first.says_the_same(told):
            return "repeated", answers.told(first, 200, request_id)
        return "conflict", answers.refused_here(answers.REFERENCE_CONFLICT, request_id)

    async def _read(self, request: web.Request, merchant: str) -> OfflineRecorded | Denial:
        try:
            _check_type(request)
        except BodyError as error:
            return body_denial(error)
        body = await request.read()
        return read_message(body, Teller(merchant, self._now_us(), ToldBy.MERCHANT))


def build_app(payments: OfflinePayments, draining: asyncio.Event) -> web.Application:
    """The application; `draining`: /healthz says so, and answers close their connections."""

    @web.middleware
    async def answered(request: web.Request, handler: _Handler) -> web.StreamResponse:
        set_trace(parse_traceparent(request.headers.get("traceparent")))
        response = await _answered(request, handler)
        if draining.is_set():
            response.force_close()
        return response

    async def health(_: web.Request) -> web.Response:
        return web.Response(status=503 if draining.is_set() else 200, text="draining" if draining.is_set() else "ok")

    app = web.Application(middlewares=[answered], client_max_size=LIMITS.max_bytes)
    app.router.add_get("/healthz", health)
    app.router.add_post(PATH, payments.record)
    # Before the references: none of them has a dot.
    app.router.add_get(f"{PATH}/openapi.json", payments.describe)
    app.router.add_get(f"{PATH}/{{reference}}", payments.show)
    return app


async def _answered(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """What the handler answers, or its failure in the generic shape."""
    try:
        return await handler(request)
    except Unavailable as error:
        _tell(request, "unavailable", error=str(error))
        return answers.refused(Denial(Reason.UNAVAILABLE, str(error)), _request_id(request))
    except web.HTTPRequestEntityTooLarge:
        return answers.refused(Denial(Reason.BODY_TOO_LARGE, "longer than read here"), _request_id(request))
    except web.HTTPMethodNotAllowed as error:
        response = answers.refused_here(answers.METHOD_UNKNOWN, _request_id(request))
        response.headers["allow"] = error.headers["allow"]
        return response
    except web.HTTPNotFound:
        return answers.refused(Denial(Reason.ROUTE_UNKNOWN, "no such path"), _request_id(request))
    except (web.HTTPException, asyncio.CancelledError):
        raise
    except Exception as error:
        # Neither its text nor a page of aiohttp's: both may hold values of the request.
        _LOG.error("failed", extra={"fields": {"error": describe_error(error)}})
        return answers.refused(Denial(Reason.UNAVAILABLE, "a bug"), _request_id(request))


def _check_type(request: web.Request) -> None:
    """Raises BodyError for what is not JSON in UTF-8, as it is."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise BodyError(BodyErrorKind.CONTENT_TYPE, "the content encoding is not read here")
    content_type = parse_content_type(request.headers.get("content-type", ""))
    if content_type.media_type != "application/json" or content_type.charset not in (None, "utf-8"):
        raise BodyError(BodyErrorKind.CONTENT_TYPE, "the content type is not application/json in UTF-8")


def _merchant(request: web.Request) -> str | None:
    """None: not told, or told twice."""
    named = request.headers.getall(MERCHANT_HEADER, [])
    return named[0] if len(named) == 1 and named[0] else None


def _request_id(request: web.Request) -> str:
    """Envoy's own: it lets none of a client's through."""
    return request.headers.get("x-request-id", "")


def _tell(request: web.Request, answer: str, **more: str) -> None:
    fields = {"answer": answer, "merchant": _merchant(request), "request_id": _request_id(request), **more}
    _LOG.info("offline_payment", extra={"fields": fields})
