"""Owns one request over HTTP/2 without TLS, its body in the DATA frames that a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset


@dataclass
class Http2Answer:
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reset: bool = False

    @property
    def status(self) -> int:
        return int(self.headers[":status"])


async def send_http2(address: str, path: str, chunks: Sequence[bytes], headers: dict[str, str]) -> Http2Answer:
    """POST to `http://host:port`. No chunks: the headers end the stream. Chunks up to 16 KiB."""
    host, _, port = address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    # The default window is smaller than the bodies here, and nothing here is about flow control.
    connection.update_settings({4: 1 << 24})  # SETTINGS_INITIAL_WINDOW_SIZE
    connection.increment_flow_control_window(1 << 24)
    stream = connection.get_next_available_stream_id()
    named = [(":method", "POST"), (":scheme", "http"), (":authority", host), (":path", path), *headers.items()]
    connection.send_headers(stream, named, end_stream=not chunks)
    for number, chunk in enumerate(chunks, 1):
        connection.send_data(stream, chunk, end_stream=number == len(chunks))
    answer = Http2Answer()
    try:
        async with asyncio.timeout(30):
            while not (answer.ended or answer.reset):
                writer.write(connection.data_to_send())
                await writer.drain()
                received = await reader.read(65_536)
                if not received:
                    raise ConnectionError("Envoy closed the connection")
                for event in connection.receive_data(received):
                    _take(event, answer)
    finally:
        writer.close()
        await writer.wait_closed()
    return answer


def _take(event: Event, answer: Http2Answer) -> None:
    match event:
        case ResponseReceived(headers=headers):
            answer.headers = {str(name): str(value) for name, value in headers or []}
        case DataReceived(data=data):
            answer.body += data or b""
        case StreamEnded():
            answer.ended = True
        case StreamReset():
            answer.reset = True
