"""Owns finding out whether a process is ready: gRPC health for ours, HTTP 200 or an open port for the others."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from paymesh.server.startup import host_and_port

_PROBE_SECONDS = 1.0


async def is_ready(target: str) -> bool:
    """Whether `grpc:HOST:PORT` is SERVING, `tcp:HOST:PORT` takes a connection, or an HTTP URL answers 200."""
    kind, _, address = target.partition(":")
    if kind == "grpc":
        return await _serving(address)
    if kind == "tcp":
        return await _listening(address)
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        timeout = aiohttp.ClientTimeout(total=_PROBE_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(target) as response:
            return response.status == 200
    return False


async def _listening(address: str) -> bool:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(*host_and_port(address))
        writer.close()
        return True
    return False


async def _serving(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        with contextlib.suppress(grpc.aio.AioRpcError):
            check = health_pb2_grpc.HealthStub(channel).Check
            answer = await check(health_pb2.HealthCheckRequest(), timeout=_PROBE_SECONDS)
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    return False
