"""A service as an operator meets it: a process that starts, answers, drains and ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAM = """
from paymesh.server import grpc_experiments
grpc_experiments.apply()
import argparse, asyncio, contextlib, grpc, logging, os
from paymesh.server.service import add_server_arguments, run_service, server_options

async def echo(request, context):
    return request

async def hang(request, context):
    await asyncio.sleep(3600)

async def slow(request, context):
    await asyncio.sleep(1)
    return request

async def stream(requests, context):
    async for request in requests:
        yield request

async def stubborn(request, context):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

HANDLERS = {
    "/test/echo": grpc.unary_unary_rpc_method_handler(echo),
    "/test/hang": grpc.unary_unary_rpc_method_handler(hang),
    "/test/slow": grpc.unary_unary_rpc_method_handler(slow),
    "/test/stubborn": grpc.unary_unary_rpc_method_handler(stubborn),
    "/test/stream": grpc.stream_stream_rpc_method_handler(stream),
}

class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return HANDLERS.get(details.method)

@contextlib.asynccontextmanager
async def build(runtime):
    if "TEST_HANG_AT_START" in os.environ:
        logging.getLogger("test").info("started", extra={"fields": {"address": ""}})
        await asyncio.sleep(3600)
    runtime.server.add_generic_rpc_handlers([Handler()])
    yield
    logging.getLogger("test").info("left")

parser = argparse.ArgumentParser()
add_server_arguments(parser, "127.0.0.1:0")
raise SystemExit(run_service(server_options(parser.parse_args(), "tested"), build))
"""


class Running:
    """The process and what its log says of its addresses."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.address = self.metrics = ""
        assert process.stderr is not None
        for text in process.stderr:
            line = json.loads(text) if text.startswith("{") else {}
            if line.get("event") == "metrics":
                self.metrics = line["address"]
            if line.get("event") == "started":
                self.address = line["address"]
                return
        raise AssertionError("it did not start")

    def stop(self) -> tuple[int, float, str]:
        """SIGTERM; exit code, seconds, the rest of the log."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        rest = self.process.communicate(timeout=15)[1]
        return self.process.returncode, time.monotonic() - began, rest


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(program), *arguments],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environ},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def health(address: str, service: str = "") -> Any:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status


def test_it_answers_health_and_metrics_and_stops_at_once_when_idle(start: Any) -> None:
    running = Running(start("--metrics-listen", "127.0.0.1:0"))
    serving = health_pb2.HealthCheckResponse.SERVING
    assert [health(running.address), health(running.address, "tested")] == [serving, serving]
    with pytest.raises(grpc.RpcError) as error:
        health(running.address, "unknown")
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
    with urllib.request.urlopen(f"http://{running.metrics}/metrics") as answer:
        text = answer.read().decode()
    assert "process_cpu_seconds_total" in text
    assert "paymesh_log_lines_dropped 0.0" in text
    code, seconds, log = running.stop()
    assert code == 0
    assert seconds < 2
    assert [json.loads(line)["event"] for line in log.splitlines()] == ["draining", "left", "stopped"]


async def test_sigterm_drains_and_ends_within_five_seconds(start: Any) -> None:
    running = Running(start())
    async with grpc.aio.insecure_channel(running.address) as channel:
        stream = channel.stream_stream("/test/stream")()
        await stream.write(b"open")
        assert await stream.read() == b"open"
        hanging = asyncio.ensure_future(_outcome(channel.unary_unary("/test/hang")(b"")))
        slow = asyncio.ensure_future(_outcome(channel.unary_unary("/test/slow")(b"done")))
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await asyncio.sleep(0.2)
        stopping = asyncio.create_task(asyncio.to_thread(running.stop))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await slow == b"done"  # what was at work is finished
        code, seconds, _ = await stopping
        assert code == 0
        assert seconds < 5
        assert await hanging in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_a_task_that_swallows_its_cancellation_does_not_hold_it_up(start: Any) -> None:
    running = Running(start())
    async with grpc.aio.insecure_channel(running.address) as channel:
        hanging = asyncio.ensure_future(_outcome(channel.unary_unary("/test/stubborn")(b"")))
        await asyncio.sleep(0.5)
        code, seconds, log = await asyncio.to_thread(running.stop)
        await hanging
    assert seconds < 5.2
    assert code == 1
    assert "stopped_by_force" in log


def test_a_start_that_hangs_can_be_stopped(start: Any) -> None:
    code, seconds, _ = Running(start(TEST_HANG_AT_START="1")).stop()
    assert code == 1
    assert seconds < 5.2


async def _outcome(call: Any) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        return error.code()


@pytest.mark.parametrize("flag", ["--listen", "--metrics-listen"])
def test_a_taken_port_is_named(start: Any, flag: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        process = start(flag, address)
        message = process.communicate(timeout=15)[1]
    assert process.returncode == 2
    assert f"tested: cannot listen on {address}" in message
    assert "Traceback" not in message


def test_two_services_never_share_a_port(start: Any) -> None:
    first = Running(start())
    second = start("--listen", first.address)
    assert "cannot listen" in second.communicate(timeout=15)[1]
    assert second.returncode == 2


def test_a_unix_socket_is_taken_or_left_over(start: Any, tmp_path: Path) -> None:
    listen = f"unix:{tmp_path}/s"
    first = Running(start("--listen", listen))
    assert health(listen) == health_pb2.HealthCheckResponse.SERVING
    second = start("--listen", listen)
    assert "already in use" in second.communicate(timeout=15)[1]
    assert health(listen) == health_pb2.HealthCheckResponse.SERVING  # the first still has it
    first.process.kill()
    first.process.communicate()
    assert Running(start("--listen", listen)).stop()[0] == 0  # a crash's left-over is no obstacle


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--listen", "9001"), "9001: not HOST:PORT"),
        (("--listen", "127.0.0.1:x"), "127.0.0.1:x: not HOST:PORT"),
        (("--listen", "127.0.0.1:65536"), "127.0.0.1:65536: not HOST:PORT"),
        (("--log-level", "loud"), "--log-level loud"),
        (("--tls-cert", "a.pem"), "both --tls-cert and --tls-key"),
        (("--tls-client-ca", "a.pem"), "both --tls-cert and --tls-key"),
        (("--tls-cert", "/absent.pem", "--tls-key", "/absent.key"), "TLS: /absent.pem with /absent.key: No such file"),
    ],
)
def test_unusable_arguments_are_named(start: Any, arguments: tuple[str, ...], message: str) -> None:
    process = start(*arguments)
    said = process.communicate(timeout=15)[1]
    assert process.returncode == 2
    assert message in said
    assert "Traceback" not in said


def test_flags_fall_back_to_the_environment(start: Any) -> None:
    running = Running(start(PAYMESH_METRICS_LISTEN="127.0.0.1:0"))
    assert running.metrics
    assert running.stop()[0] == 0
