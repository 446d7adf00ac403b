"""Owns what a caller hears of a bug in a gRPC method: its status, never its text, which may hold what was being read.

grpc would send the exception's text to the caller (Envoy, which may log it) and log it. Methods are wrapped once, when
they are added to the server: an interceptor would cost every call.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import grpc

from paymesh.server.logs import describe_error

_LOG = logging.getLogger(__name__)
_KINDS: Mapping[tuple[bool, bool], tuple[str, Callable[..., Any]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


def without_error_texts(server: grpc.aio.Server) -> grpc.aio.Server:
    """The same server; whatever is added to it from now on fails with status UNKNOWN and no text of its own."""
    registered, generic = server.add_registered_method_handlers, server.add_generic_rpc_handlers

    def add_registered(service: str, handlers: Mapping[str, Any]) -> None:
        registered(service, {name: _guarded(handler) for name, handler in handlers.items()})

    def add_generic(handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        generic([_Generic(handler) for handler in handlers])

    # The generated code calls one or both of these, by the version of its generator.
    vars(server).update(add_registered_method_handlers=add_registered, add_generic_rpc_handlers=add_generic)
    return server


class _Generic(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, inner: grpc.GenericRpcHandler) -> None:
        self._inner = inner

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        handler = self._inner.service(details)
        return None if handler is None else _guarded(handler)


def _guarded(handler: Any) -> Any:
    name, make = _KINDS[handler.request_streaming, handler.response_streaming]
    method = getattr(handler, name)
    if inspect.isasyncgenfunction(method):
        method = _guarded_stream(method)
    elif inspect.iscoroutinefunction(method):
        method = _guarded_call(method)
    return make(method, handler.request_deserializer, handler.response_serializer)


def _guarded_call(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await method(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as bug:
            await _fail(method, context, bug)

    return call


def _guarded_stream(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def stream(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            async for answer in method(request, context):
                yield answer
        except grpc.aio.AbortError:
            raise
        except Exception as bug:
            await _fail(method, context, bug)

    return stream


async def _fail(method: Callable[..., Any], context: grpc.aio.ServicerContext[Any, Any], bug: Exception) -> None:
    _LOG.error("call failed", extra={"fields": {"method": method.__name__, "error": describe_error(bug)}})
    await context.abort(grpc.StatusCode.UNKNOWN, "failed")
