"""Our matcher against Envoy's router: the same routes, thousands of generated requests, the same answer to each.

Envoy's part is the real one: the listener and the routes that the control plane builds, with each route's action
replaced by an answer that names the route and the path that Envoy matched.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from envoy.config.route.v3 import route_pb2

from control_plane.resources.names import ROUTE_CONFIGURATION
from control_plane.resources.routes import NO_ROUTE, build_routes
from control_plane.weights import effective_weights
from paymesh.cli.stack.ports import Ports
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.releases.traffic import Traffic
from paymesh.payments.request import Request
from paymesh.payments.routing import find_route
from tests.data_plane.static_envoy import listener_of, running_envoy

pytestmark = pytest.mark.data_plane
SEED = 20261123
REQUESTS = 6000
SEGMENTS = [
    "a",
    "b",
    "v1",
    "pay",
    "a.b",
    "%61",
    "x-y",
    "~",
    "é",
    "a+b",
    "a%20b",
    "",
    ".",
    "..",
    "A",
    "a;b",
    "a=b",
    "中",
]
HEADERS = ["tag", "kind"]
VALUES = ["one", "two", "", "one,two", "ONE"]
COOKIES = ["one", "t+o", "a.b", "", "one,two", "on", "oné"]
METHODS = ["GET", "POST", "PUT", "DELETE"]


def generated_routes(random_: random.Random) -> str:
    """A policy whose routes overlap in every way that a match knows."""
    lines = ["services: [{name: s, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: 1}]}]}]", "routes:"]
    for number in range(90):
        plain = [
            random_.choice(["a", "b", "v1", "pay", "a.b", "x-y", "~", "a+b"]) for _ in range(random_.randint(1, 3))
        ]
        kind = random_.choice(["path", "path_template", "prefix"])
        if kind == "path_template":
            plain[random_.randrange(len(plain))] = "{name}"
        match = [f'{kind}: "/{"/".join(plain)}"']
        if random_.random() < 0.5:
            match.append(f"methods: [{', '.join(random_.sample(METHODS, random_.randint(1, 3)))}]")
        for key in ("headers", "query_parameters"):
            if random_.random() < 0.3:
                exact = f', exact: "{random_.choice(VALUES[:2])}"' if random_.random() < 0.6 else ""
                match.append(f"{key}: [{{name: {random_.choice(HEADERS)}{exact}}}]")
        if random_.random() < 0.3:
            exact = f', exact: "{random_.choice(COOKIES[:3])}"' if random_.random() < 0.6 else ""
            match.append(f"cookies: [{{name: {random_.choice(HEADERS)}{exact}}}]")
        lines.append(f"  - {{name: r{number}, operation: other, service: s, match: {{{', '.join(match)}}}}}")
    return "\n".join(lines) + "\n"


def without_shadowed(text: str) -> str:
    """Routes that the policy refuses, since others leave them no request, are left out."""
    file = Path("generated.yaml")
    lines = text.splitlines()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / file
        file.write_text(text)
        try:
            load_policy([file], {})
        except PolicyErrors as errors:
            refused = {problem.line for problem in errors.problems if "no request is left" in problem.message}
            lines = [line for number, line in enumerate(lines, 1) if number not in refused]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Sent:
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]


def generated_request(random_: random.Random) -> Sent:
    path = "/" + "/".join(random_.choice(SEGMENTS) for _ in range(random_.randint(0, 4)))
    query = "&".join(
        random_.choice(["tag", "kind", "t%61g", "other", ""])
        + random_.choice(["", "=", "=one", "=two", "=o%6ee", "=one=two"])
        for _ in range(random_.randint(0, 3))
    )
    headers = tuple((random_.choice(HEADERS), random_.choice(VALUES)) for _ in range(random_.randint(0, 3)))
    for _ in range(random_.choice([0, 0, 1, 1, 2])):
        headers += (("cookie", generated_cookies(random_)),)
    return Sent(random_.choice(METHODS), path + (f"?{query}" if random_.random() < 0.6 else ""), headers)


def generated_cookies(random_: random.Random) -> str:
    pairs = [
        random_.choice(["tag", "kind", "xtag", "tag2", ""])
        + random_.choice(["=", "=", "=", ""])
        + random_.choice(COOKIES)
        + random_.choice(["", "", " "])
        for _ in range(random_.randint(1, 3))
    ]
    return random_.choice([";", "; ", ";; "]).join(pairs)


def answering_routes(policy: Policy) -> route_pb2.RouteConfiguration:
    """The control plane's routes, each answering with its own name."""
    splits = {name: Traffic(split) for name, split in effective_weights(policy, {}).items()}
    routes = route_pb2.RouteConfiguration.FromString(build_routes(policy, splits)[ROUTE_CONFIGURATION])
    for route in routes.virtual_hosts[0].routes:
        route.typed_per_filter_config.clear()
        route.direct_response.status = 200
        route.direct_response.body.inline_string = route.name
        matched = route.response_headers_to_add.add()
        matched.header.key, matched.header.value = "matched-path", "%REQ(:PATH)%"
    return routes


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    file = tmp_path_factory.mktemp("routes") / "routes.yaml"
    file.write_text(without_shadowed(generated_routes(random.Random(SEED))))
    return load_policy([file], {})


@pytest.fixture(scope="module")
def envoy_port(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = Ports.random().gateway
    listener = listener_of(policy, answering_routes(policy), port)
    with running_envoy(tmp_path_factory.mktemp("envoy"), port, [listener]):
        yield port


class Connection:
    """One HTTP/1.1 connection that sends exactly the bytes it is given, opened again when Envoy closes it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, sent: Sent) -> tuple[int, str, str]:
        """Status, the route that answered, the path that Envoy matched."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        lines = [f"{sent.method} {sent.target} HTTP/1.1", "host: gateway", "content-length: 0"]
        lines += [f"{name}: {value}" for name, value in sent.headers]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("utf-8", "surrogateescape")
        status, *headers = head.rstrip("\r\n").split("\r\n")
        found = dict(line.split(": ", 1) for line in headers if ": " in line)
        body = await reader.readexactly(int(found.get("content-length", 0)))
        if found.get("connection") == "close":
            self.close()
        return int(status.split(" ")[1]), body.decode(), found.get("matched-path", "")

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def test_the_same_request_finds_the_same_route(policy: Policy, envoy_port: int) -> None:
    random_ = random.Random(SEED + 1)
    compared: dict[str, int] = {}
    rejected = 0
    connection = Connection(envoy_port)
    for _ in range(REQUESTS):
        sent = generated_request(random_)
        status, answered, path = await connection.ask(sent)
        if status != 200:
            rejected += 1  # Envoy refuses the request before it looks for a route
            continue
        headers: dict[str, tuple[str, ...]] = {}
        for name, value in sent.headers:
            headers[name] = (*headers.get(name, ()), value)
        ours = find_route(policy, Request(sent.method, path, headers, b"", "id"))
        assert (ours.name if ours else NO_ROUTE) == answered, (sent, path)
        compared[answered] = compared.get(answered, 0) + 1
    connection.close()
    # The comparison means something only if it reached many routes and few requests were rejected outright.
    assert len(compared) > 30, compared
    assert sum(compared.values()) > REQUESTS / 2, rejected
