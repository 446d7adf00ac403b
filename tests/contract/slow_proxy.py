"""Owns a TCP proxy for tests that holds back a server's answers, each piece for as long as the test says. With TLS
towards clients if it is given a context: the packaged Valkey has none."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable

HOST = "127.0.0.1"


class SlowProxy:
    """`delay_s` is asked for every piece of an answer. `received`: what clients sent, joined.

    `connections`: ever made; `open`: now.
    """

    def __init__(self, server_port: int, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.delay_s: Callable[[], float] = lambda: 0.0
        self.connections = 0
        self.open = 0
        self.received = bytearray()
        self.port = 0
        self._server_port = server_port
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            await self._pass_on(reader, writer)
        finally:
            self.open -= 1

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(HOST, self._server_port)
        except OSError:
            return
        answers = asyncio.create_task(self._answers(up_reader, writer))
        try:
            with contextlib.suppress(OSError):  # the client was killed
                while piece := await reader.read(65536):
                    self.received += piece
                    up_writer.write(piece)
        finally:
            answers.cancel()
            up_writer.close()

    async def _answers(self, up_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await up_reader.read(65536):
            await asyncio.sleep(self.delay_s())
            writer.write(piece)
        writer.close()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Here, for a task that is cancelled before it began runs no `finally`.
        task.add_done_callback(lambda _: writer.close())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[SlowProxy]:
        server = await asyncio.start_server(self._accepted, HOST, 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # their callbacks close the connections
