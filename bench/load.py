"""Owns the loads of `bench.chain`, each a process of its own: signed HTTP requests on Envoy, and calls on bare grpcio.

    python -m bench.load http ...     prints one JSON object: rate, latencies, CPU time of the processes it was told of
    python -m bench.load calls ...    the same for gRPC calls on `serve`
    python -m bench.load serve ...    the bare handler: bytes in, the same bytes out each time, no protobuf, no decision

Closed loops: each connection sends its next request when the last answer is complete. Signing is done before the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from paymesh.server import grpc_experiments

grpc_experiments.apply()  # before grpc is imported, as the services do

import grpc  # noqa: E402
from grpc_health.v1 import health, health_pb2_grpc  # noqa: E402

from paymesh.cli.demo.signing import HmacMerchant  # noqa: E402
from paymesh.server.binding import bind, new_server  # noqa: E402

KEY_ID, TARGET = "bench-2026", "/v1/payments"
MOST_PER_SECOND = 30_000
"""So many requests are signed for each second; a run that needs more fails and says so."""
CHECK = "/envoy.service.auth.v3.Authorization/Check"
FIRST_REQUEST = "/bench.Bare/FirstRequest"
ORDER_NO = b"B2026010100000000000000"
BODY = json.dumps(
    {
        "order_no": "B2026010100000000000000",
        "product": "card",
        "amount": {"total": 12_345, "currency": "CNY"},
        "payer": {"name": "Zhang San", "phone": "13800138000", "email": "zhang.san@example.com"},
        "card": {"pan": "6222020000000000005", "cvv": "123", "expires": "12/29"},
        "description": "Two pots of tea and a box of mooncakes, to be delivered on Friday afternoon",
        "items": [{"sku": f"TEA-{number:04}", "quantity": 2, "price": 1_999} for number in range(4)],
        "notify_url": "https://shop.example.com/payments/notify",
        "attach": "till=7;clerk=Li;shop=Hangzhou West Lake",
    },
    separators=(",", ":"),
).encode()


@dataclass
class Clock:
    """What happens between the end of the warm-up and the end of the run. Only that is counted."""

    processes: Mapping[str, int]
    warmup_s: float
    seconds: float
    latencies_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)

    async def run(self) -> None:
        await asyncio.sleep(self.warmup_s)
        before = self._cpu()
        self.began = time.perf_counter()
        await asyncio.sleep(self.seconds)
        self.ended = time.perf_counter()
        self.cpu_s = {name: used - before[name] for name, used in self._cpu().items()}

    def answered(self, sent: float, failure: str | None = None) -> None:
        """An answer is complete; `failure`: it is not the right one (counted in the warm-up as well)."""
        if failure is not None:
            self.failures.append(failure)
        elif self.began and not self.ended:
            self.latencies_s.append(time.perf_counter() - sent)

    def report(self) -> dict[str, object]:
        answered, ordered = len(self.latencies_s), sorted(self.latencies_s)
        return {
            "answered": answered,
            "failures": len(self.failures),
            "first_failure": next(iter(self.failures), ""),
            "per_second": answered / (self.ended - self.began),
            "p50_ms": ordered[answered // 2] * 1e3 if ordered else None,
            "p99_ms": ordered[answered * 99 // 100] * 1e3 if ordered else None,
            "cpu_us": {name: used / answered * 1e6 for name, used in self.cpu_s.items()} if ordered else {},
        }

    def _cpu(self) -> dict[str, float]:
        own = time.process_time()
        return {**{name: _cpu_seconds(pid) for name, pid in self.processes.items()}, "load": own}


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads: fields 14 and 15 of its stat (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Connection(asyncio.Protocol):
    """One keep-alive connection: the next request goes out when the answer to the last is complete."""

    def __init__(self, requests: Iterator[bytes], clock: Clock) -> None:
        self._requests = requests
        self._clock = clock
        self._received = b""
        self._sent = 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator or len(rest) < _content_length(head):
            return
        self._received = b""
        right = head.startswith(b"HTTP/1.1 200 ")
        self._clock.answered(self._sent, None if right else (head + b"\n" + rest).decode(errors="replace"))
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._clock.answered(self._sent, f"the connection ended: {exc or 'closed by Envoy'}")
            self.done.set_result(None)

    def _send(self) -> None:
        request = None if self._clock.ended else next(self._requests, None)
        if request is None:
            if not self._clock.ended:
                self._clock.failures.append(f"more than {MOST_PER_SECOND} requests a second: too few were signed")
            self.done.set_result(None)
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(request)


def _content_length(head: bytes) -> int:
    _, _, after = head.lower().partition(b"content-length:")
    return int(after.partition(b"\r\n")[0] or 0)


def signed_requests(address: str, secret: Path, count: int) -> list[bytes]:
    """HTTP requests with BODY, each with a nonce and an order number of its own, signed now."""
    merchant = HmacMerchant.from_file(KEY_ID, secret)
    lines = f"POST {TARGET} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
    lines += f"User-Agent: paymesh-bench\r\nContent-Length: {len(BODY)}\r\n"
    made = []
    before, after = BODY.split(ORDER_NO)
    for number in range(count):
        body = before + b"B%022d" % number + after
        signed = merchant.headers("POST", TARGET, body).items()
        head = lines + "".join(f"{name}: {value}\r\n" for name, value in signed) + "\r\n"
        made.append(head.encode() + body)
    return made


async def _http(args: argparse.Namespace, clock: Clock) -> None:
    host, _, port = args.target.rpartition(":")
    count = int((args.warmup + args.seconds) * MOST_PER_SECOND)
    requests = iter(signed_requests(args.target, args.secret, count))
    gc.freeze()  # so many are nothing to look through while the clock runs
    loop = asyncio.get_running_loop()
    made = [
        (await loop.create_connection(lambda: _Connection(requests, clock), host, int(port)))[1]
        for _ in range(args.connections)
    ]
    await clock.run()
    await asyncio.gather(*(connection.done for connection in made))


async def _calls(args: argparse.Namespace, clock: Clock) -> None:
    async with grpc.aio.insecure_channel(args.target) as channel:
        payload = await channel.unary_unary(FIRST_REQUEST)(b"")
        check = channel.unary_unary(CHECK)

        async def caller() -> None:
            while not clock.ended:
                sent = time.perf_counter()
                await check(payload)
                clock.answered(sent)

        await asyncio.gather(clock.run(), *(caller() for _ in range(args.connections)))


class _Bare(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Passes the first CheckRequest on to the real ext_authz, and gives its answer to all."""

    def __init__(self, ext_authz: str) -> None:
        self._ext_authz = ext_authz
        self._asked = asyncio.Lock()
        self._first, self._answer = b"", b""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        behaviour = {CHECK: self._check, FIRST_REQUEST: self._first_request}.get(details.method)
        return None if behaviour is None else grpc.unary_unary_rpc_method_handler(behaviour)

    async def _check(self, request: bytes, _: object) -> bytes:
        if not self._answer:
            async with self._asked, grpc.aio.insecure_channel(self._ext_authz) as channel:
                self._first, self._answer = request, await channel.unary_unary(CHECK)(request)
        return self._answer

    async def _first_request(self, _: bytes, __: object) -> bytes:
        return self._first


async def _serve(args: argparse.Namespace) -> None:
    server = new_server()
    server.add_generic_rpc_handlers([_Bare(args.ext_authz)])
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    bind(server, args.target, None)
    await server.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await server.stop(None)


def _pid(text: str) -> tuple[str, int]:
    name, _, pid = text.partition("=")
    return name, int(pid)


def main() -> None:
    """Make the load, or be the bare handler."""
    parser = argparse.ArgumentParser(prog="bench.load")
    parser.add_argument("mode", choices=["http", "calls", "serve"])
    parser.add_argument("--target", required=True, metavar="HOST:PORT", help="to call, or to listen on")
    parser.add_argument("--secret", type=Path, help="the merchant's HMAC secret")
    parser.add_argument("--ext-authz", metavar="HOST:PORT", help="who answers the bare handler's first call")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--warmup", type=float, default=1.5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--pid", action="append", type=_pid, default=[], metavar="NAME=PID", help="measure this one")
    args = parser.parse_args()
    if args.mode == "serve":
        asyncio.run(_serve(args))
        return
    load: Callable[[argparse.Namespace, Clock], object] = {"http": _http, "calls": _calls}[args.mode]
    clock = Clock(dict(args.pid), args.warmup, args.seconds)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(load(args, clock))  # type: ignore[arg-type]
        print(json.dumps(clock.report()))


if __name__ == "__main__":
    main()
