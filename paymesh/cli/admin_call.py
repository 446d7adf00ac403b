"""Owns asking the control plane from a terminal, and what is said when it cannot be reached or refuses."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import grpc

from paymesh.cli.admin_channel import UnusableFile, admin_channel

DEFAULT_ADMIN = "127.0.0.1:18001"
CALL_SECONDS = 5.0
EXIT_UNUSABLE = 2


def call_admin(args: argparse.Namespace, act: Callable[[grpc.aio.Channel], Awaitable[int]]) -> int:
    """Over the channel that the arguments describe, closed behind it. Its exit code, or EXIT_UNUSABLE."""

    async def inside() -> int:
        async with admin_channel(args) as channel:
            return await act(channel)

    return run_admin(args, inside)


def run_admin(args: argparse.Namespace, act: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """For what opens its channels itself. Its exit code, or EXIT_UNUSABLE with the trouble on stderr."""
    try:
        return asyncio.run(act())
    except UnusableFile as error:
        print(error, file=sys.stderr)
    except grpc.aio.AioRpcError as error:
        print(_said(args.admin, error), file=sys.stderr)
    return EXIT_UNUSABLE


def _said(admin: str, error: grpc.aio.AioRpcError) -> str:
    details = error.details() or error.code().name
    # The service's own words where it has some: a change that cannot be recorded is UNAVAILABLE as well.
    if error.code() is grpc.StatusCode.UNAVAILABLE and "recorded" not in details:
        return f"no control plane answers on {admin} (--admin names another address)"
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"the control plane on {admin} did not answer in time"
    return str(details)
