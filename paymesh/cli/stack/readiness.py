"""Owns finding out whether a process is ready: gRPC health for ours, HTTP 200 for the others."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_PROBE_SECONDS = 1.0


async def is_ready(target: str) -> bool:
    """Whether `grpc:HOST:PORT` is SERVING, or an HTTP URL answers 200."""
    if target.startswith("grpc:"):
        return await _serving(target.removeprefix("grpc:"))
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        timeout = aiohttp.ClientTimeout(total=_PROBE_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(target) as response:
            return response.status == 200
    return False


async def _serving(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.TimeoutError):
            check = health_pb2_grpc.HealthStub(channel).Check
            answer = await check(health_pb2.HealthCheckRequest(), timeout=_PROBE_SECONDS)
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    return False
