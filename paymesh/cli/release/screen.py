"""Owns drawing a view again and again in the same place of a terminal (ECMA-48), and leaving it as it was."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from paymesh.cli.release.output import encodable

_CLEAR, _HOME, _TO_LINE_END, _TO_SCREEN_END = "\x1b[H\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
EXIT_TERMINATED = 128 + signal.SIGTERM


class Screen:
    def draw(self, lines: Sequence[str]) -> None:
        """Over what was drawn before. What the terminal has no room for is cut: a wrapped line would scroll it."""
        columns, rows = shutil.get_terminal_size()
        if len(lines) > rows - 1:
            lines = [*lines[: max(rows - 2, 0)], f"... {len(lines) - rows + 2} more lines: the terminal is too low"]
        text = "".join(f"{encodable(line[:columns])}{_TO_LINE_END}\n" for line in lines)
        sys.stdout.write(f"{_HOME}{text}{_TO_SCREEN_END}")
        sys.stdout.flush()


def is_terminal() -> bool:
    """Whether what is printed can be drawn over."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


@asynccontextmanager
async def screen() -> AsyncIterator[Screen]:
    """The cursor is hidden, and shown again however it ends: SIGTERM cancels the task and becomes SystemExit. (Raised
    by a signal's handler it would be lost where it comes upon a callback of gRPC.)"""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # whoever draws is one
    terminated = False

    def end() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, end)
    sys.stdout.write(f"{_CLEAR}{_HIDE_CURSOR}")
    try:
        yield Screen()
    except asyncio.CancelledError:
        if terminated:
            sys.exit(EXIT_TERMINATED)
        raise
    finally:
        sys.stdout.write(_SHOW_CURSOR)
        sys.stdout.flush()
        loop.remove_signal_handler(signal.SIGTERM)
