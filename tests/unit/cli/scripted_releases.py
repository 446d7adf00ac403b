"""Owns a real gRPC server of the control plane's APIs whose answers a test writes down."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from control_plane.admin import admin_pb2_grpc
from control_plane.releases import releases_pb2 as pb
from control_plane.releases import releases_pb2_grpc


@dataclass(frozen=True)
class Refused:
    code: grpc.StatusCode
    details: str


@dataclass
class Script:
    """`answers`: by method, one a call; the last one again and again. `asked`: method, request and authorization."""

    answers: dict[str, list[Any]] = field(default_factory=dict)
    asked: list[tuple[str, Any, str]] = field(default_factory=list)
    address: str = ""

    def requests(self, method: str) -> list[Any]:
        return [request for name, request, _ in self.asked if name == method]

    def _answer(self, method: str, request: Any, context: Any) -> Any:
        self.asked.append((method, request, dict(context.invocation_metadata()).get("authorization", "")))
        answers = self.answers.get(method)
        if not answers:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no answer to {method}")
            raise AssertionError
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Refused):
            context.abort(answer.code, answer.details)
        return answer

    def servicer(self, kind: type, *methods: str) -> Any:
        """Of this generated class, with these methods."""

        def method(name: str) -> Any:
            return lambda _self, request, context: self._answer(name, request, context)

        return type("Scripted", (kind,), {name: method(name) for name in methods})()


RELEASES = ("Apply", "List", "Get", "Tell", "Drill", "History", "Preview", "Receipt")


@contextmanager
def serving(address: str = "127.0.0.1:0", **answers: Any) -> Iterator[Script]:
    """A list is one answer a call; anything else is the answer to every call."""
    script = Script({name: given if isinstance(given, list) else [given] for name, given in answers.items()})
    # Without so_reuseport a second server on the address is refused instead of taking every other call.
    server = grpc.server(ThreadPoolExecutor(4), options=(("grpc.so_reuseport", 0),))
    releases = script.servicer(releases_pb2_grpc.ReleasesServicer, *RELEASES)
    releases_pb2_grpc.add_ReleasesServicer_to_server(releases, server)
    admin = script.servicer(admin_pb2_grpc.AdminServicer, "SetWeight", "Status")
    admin_pb2_grpc.add_AdminServicer_to_server(admin, server)
    script.address = f"127.0.0.1:{server.add_insecure_port(address)}"
    server.start()
    try:
        yield script
    finally:
        server.stop(grace=None).wait()


def a_release(**changed: Any) -> pb.Release:
    """Of trade, v1 to v2, on hold at 10%."""
    given: dict[str, Any] = {
        "name": "trade-v2",
        "service": "trade",
        "strategy": "canary",
        "stable": "v1",
        "target": "v2",
        "phase": "holding",
        "steps": ["weight 1.00%", "hold 5m", "weight 10.00%", "hold 5m", "gate"],
        "step": 3,
        "set_weight": 1_000,
        "actual_weight": 1_000,
        "pins": 2,
        "verdict": "pass",
        "why": "every check passed",
        "findings": [pb.Finding(check="success", verdict="pass", why="worse by 0.12% at most, 0.50% allowed")],
        "hold_until": 1_767_323_045,
        "traffic": [
            pb.VersionTraffic(
                version="v1",
                requests=90_000,
                errors=9,
                payments=80_000,
                payments_failed=1,
                p99_ms=42,
                amount=[pb.Money(currency="CNY", amount=8_888), pb.Money(currency="JPY", amount=500)],
                samples=[
                    pb.Sample(at=60 * at, requests=100 * at, errors=int(at == 3), p99_ms=40) for at in range(1, 5)
                ],
            ),
            pb.VersionTraffic(version="v2"),
        ],
        "analysed": True,
        "changed_at": 1_767_322_745,
        **changed,
    }
    if given["actual_weight"] is None:
        del given["actual_weight"]
    return pb.Release(**given)
