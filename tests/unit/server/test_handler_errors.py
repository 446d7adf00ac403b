"""What a caller hears when a gRPC method has a bug."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import grpc
import pytest

from paymesh.server.binding import bind, new_server

SECRET = "cvv 123 of 张三"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


async def heard(request: object) -> None:
    """Whole: a caller that is still sending when its call ends hears an error of its own library."""
    if isinstance(request, AsyncIterator):
        async for _ in request:
            pass


async def broken(request: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    await heard(request)
    raise ValueError(SECRET)


async def broken_stream(request: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
    await heard(request)
    yield b"first"
    raise ValueError(SECRET)


async def aborting(request: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    await context.abort(grpc.StatusCode.NOT_FOUND, "said on purpose")
    return b""


@pytest.mark.parametrize("registered", [True, False], ids=["registered", "generic"])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_caller_hears_a_status_and_nothing_else(
    kind: str, registered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    method = broken_stream if kind.endswith("stream") else broken
    handler = getattr(grpc, f"{kind}_rpc_method_handler")(method)
    with caplog.at_level(logging.ERROR):
        status = await call(kind, handler, registered=registered)
    assert status == (grpc.StatusCode.UNKNOWN, "failed")
    assert [record.getMessage() for record in caplog.records] == ["call failed"]
    assert SECRET not in repr([vars(record) for record in caplog.records])


async def test_what_a_method_says_on_purpose_is_heard() -> None:
    handler = grpc.unary_unary_rpc_method_handler(aborting)
    assert await call("unary_unary", handler, registered=True) == (grpc.StatusCode.NOT_FOUND, "said on purpose")


async def call(kind: str, handler: object, *, registered: bool) -> tuple[grpc.StatusCode, str | None]:
    """The status of one call of a server that has only this method."""
    server = new_server()
    address = bind(server, "127.0.0.1:0", None)
    if registered:
        server.add_registered_method_handlers("tested", {"Method": handler})
    else:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tested", {"Method": handler}),))
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            method = getattr(channel, kind)("/tested/Method")
            calling = method(iter([b"x"]) if kind.startswith("stream") else b"x")
            if kind.endswith("stream"):
                with pytest.raises(grpc.aio.AioRpcError):
                    [answer async for answer in calling]
            return await calling.code(), await calling.details()
    finally:
        await server.stop(None)
