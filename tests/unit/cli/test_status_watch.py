"""`paymesh status --watch` against a real admin server: a pipe gets no escapes, and an outage does not end it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import grpc
import pytest

from control_plane.admin import admin_pb2, admin_pb2_grpc
from paymesh.server.binding import bind, new_server


class _Answering(admin_pb2_grpc.AdminServicer):  # type: ignore[misc]
    asked = 0

    async def Status(  # noqa: N802
        self,
        _request: admin_pb2.StatusRequest,
        context: grpc.aio.ServicerContext[admin_pb2.StatusRequest, admin_pb2.StatusResponse],
    ) -> admin_pb2.StatusResponse:
        self.asked += 1
        if self.asked == 2:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
        return admin_pb2.StatusResponse(policy_version=f"v{self.asked}")


@pytest.fixture
async def admin() -> AsyncIterator[str]:
    server = new_server()
    admin_pb2_grpc.add_AdminServicer_to_server(_Answering(), server)
    address = bind(server, "127.0.0.1:0", None)
    await server.start()
    yield address
    await server.stop(grace=0)


async def _first(admin: str, lines: int, *flags: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "paymesh.cli", "status", "--watch", "--admin", admin, *flags),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        seen: list[str] = []
        while len(seen) < lines:
            line = await asyncio.wait_for(process.stdout.readline(), 30)
            assert line, "ended by itself"
            seen.append(line.decode().rstrip("\n"))
        return seen
    finally:
        process.kill()
        await process.communicate()


async def test_json_is_a_line_each_time_and_an_outage_is_survived(admin: str) -> None:
    first, second = await _first(admin, 2, "-o", "json")
    assert json.loads(first)["policy_version"] == "v1"
    assert json.loads(second)["policy_version"] == "v3"


async def test_a_pipe_gets_no_escapes(admin: str) -> None:
    lines = await _first(admin, 12)
    assert [line for line in lines if line.startswith("policy ")] == ["policy v1", "policy v3"]
    assert not any("\x1b" in line for line in lines)
