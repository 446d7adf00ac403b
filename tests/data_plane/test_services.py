"""What a policy says of its services, shown through the real Envoy: health, ejection, breakers, TLS, DNS."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.world import Answer, World
from paymesh.cli.stack.local_stack import DEMO_POLICY, LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from tests.data_plane.certificates import Issuer, build, write

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
OUT_WITHIN_S = 5
CHECK = "health_check: {http: {path: /healthz}, interval: 500ms, timeout: 500ms}"
POLICY = f"""
channels:
  - {{name: one, service: one, products: [voucher], priority: 1}}
  - {{name: other, service: other, products: [voucher], priority: 2}}
services:
  - {{name: one, {CHECK}, versions: [{{name: v1, endpoints: [{{address: 127.0.0.1, port: "${{ONE}}"}}]}}]}}
  - {{name: other, {CHECK}, versions: [{{name: v1, endpoints: [{{address: 127.0.0.1, port: "${{OTHER}}"}}]}}]}}
  - name: pair
    outlier_detection: {{consecutive_5xx: 3, base_ejection_time: 60s, interval: 500ms}}
    versions:
      - name: v1
        endpoints: [{{address: 127.0.0.1, port: "${{ONE}}"}}, {{address: 127.0.0.1, port: "${{OTHER}}"}}]
  - name: narrow
    circuit_breakers: {{max_connections: 1, max_pending_requests: 1}}
    versions: [{{name: v1, endpoints: [{{address: 127.0.0.1, port: "${{ONE}}"}}]}}]
  - {{name: named, versions: [{{name: v1, dns: {{hostname: localhost, port: PORT}}}}]}}
  - name: private
    tls:
      ca_file: FOLDER/ca.crt
      subject_alt_names: [private.internal]
      certificate_file: FOLDER/envoy/envoy.crt
      key_file: FOLDER/envoy/envoy.pem
    versions: [{{name: v1, endpoints: [{{address: 127.0.0.1, port: "${{PRIVATE}}"}}]}}]
  - name: misnamed
    tls: {{ca_file: FOLDER/ca.crt, subject_alt_names: [other.internal]}}
    versions: [{{name: v1, endpoints: [{{address: 127.0.0.1, port: "${{PRIVATE}}"}}]}}]
routes:
  - name: vouchers
    match: {{path: /v1/payments, methods: [POST], headers: [{{name: x-vouchers, exact: "yes"}}]}}
    operation: pay
    schemes: [hmac]
    fields: {{order_no: /order_no, amount: /amount/total, currency: /amount/currency, product: /product}}
    channels: [one, other]
  - {{name: pair, match: {{path: /pair}}, operation: other, service: pair}}
  - {{name: narrow, match: {{path: /narrow}}, operation: other, service: narrow}}
  - {{name: named, match: {{path: /named}}, operation: other, service: named}}
  - {{name: private, match: {{path: /private}}, operation: other, service: private}}
  - {{name: misnamed, match: {{path: /misnamed}}, operation: other, service: misnamed}}
"""


@dataclass
class Provider:
    """A service in this process. `hold`: its answers wait for it. `status`: of pages."""

    name: str
    port: int = 0
    status: int = 200
    hold: asyncio.Event | None = None
    taken: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)
    """Serial numbers of the certificates that clients showed."""
    _runner: web.AppRunner | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        app = web.Application()
        app.router.add_get("/healthz", self._healthy)
        app.router.add_post("/v1/payments", self._pay)
        app.router.add_get("/{any:.*}", self._page)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _pay(self, request: web.Request) -> web.Response:
        self.taken["pay"] += 1
        order = await request.json()
        return web.json_response({"order_no": order["order_no"], "status": "SUCCEEDED"})

    async def _page(self, request: web.Request) -> web.Response:
        self.taken[request.path] += 1
        peer = request.transport and request.transport.get_extra_info("peercert")
        if peer:
            self.shown.append(peer["serialNumber"])
        if self.hold is not None:
            await self.hold.wait()
        return web.Response(text=self.name, status=self.status)


@dataclass
class Shop:
    world: World
    session: aiohttp.ClientSession
    one: Provider
    other: Provider
    private: Provider
    folder: Path
    authority: Issuer
    control_plane_metrics: str

    async def pay(self) -> Answer:
        return await self.world.pay(payment(uuid.uuid4().hex, "voucher"), extra={"x-vouchers": "yes"})

    async def get(self, path: str) -> tuple[int, str | None]:
        """Status and x-pay-reason."""
        async with self.session.get(f"http://{self.world.gateway}{path}") as answer:
            await answer.read()
            return answer.status, answer.headers.get("x-pay-reason")

    async def metrics(self) -> list[str]:
        """Of the control plane."""
        async with self.session.get(f"http://{self.control_plane_metrics}/metrics") as answer:
            return (await answer.text()).splitlines()

    def client_certificate(self) -> str:
        """A new one for Envoy, moved over the old one as a rotation does; its serial number as Python prints it."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        certificate = build("envoy", key, self.authority)
        fresh = self.folder / "fresh"
        fresh.mkdir(exist_ok=True)
        (self.folder / "envoy").mkdir(exist_ok=True)
        for file in reversed(write(fresh, "envoy", key, certificate)):  # the key first
            shutil.move(file, self.folder / "envoy" / file.name)
        return f"{certificate.serial_number:X}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("services")
    keys = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]
    authority = Issuer(keys[0], build("authority", keys[0], None))
    ca_file, _ = write(folder, "ca", keys[0], authority.certificate)
    name = x509.DNSName("private.internal")
    files = write(folder, "private", keys[1], build("private", keys[1], authority, name))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    context.load_verify_locations(ca_file)
    context.verify_mode = ssl.CERT_OPTIONAL
    one, other, private = Provider("one"), Provider("other"), Provider("private")
    async with contextlib.AsyncExitStack() as stack:
        for provider, tls in ((one, None), (other, None), (private, context)):
            await provider.start(tls)
            stack.push_async_callback(provider.stop)
        policy = folder / "services.yaml"
        text = POLICY.replace("FOLDER", str(folder)).replace("PORT}", f"{one.port}}}")
        for provider in (one, other, private):
            text = text.replace(f'"${{{provider.name.upper()}}}"', str(provider.port))
        policy.write_text(text)
        options = StackOptions(policy=(DEMO_POLICY, policy), run_dir=folder / "run", ports=Ports.random())
        local = LocalStack(options, say=lambda _: None)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)))
        world = World(session, local.ports.address("gateway"), local.keys, {})
        shop = Shop(
            world, session, one, other, private, folder, authority, local.ports.address("control_plane_metrics")
        )
        shop.client_certificate()
        await stack.enter_async_context(local)
        await local.ready()
        yield shop


async def test_a_channel_without_a_healthy_host_is_left_out_before_a_payment_learns_it(shop: Shop) -> None:
    assert (await shop.pay()).status == 200
    assert shop.one.taken["pay"] == 1
    await shop.one.stop()
    await asyncio.sleep(OUT_WITHIN_S)
    answers = [await shop.pay() for _ in range(5)]
    await shop.one.start()
    assert [answer.status for answer in answers] == [200] * 5
    assert shop.other.taken["pay"] == 5
    async with asyncio.timeout(20):
        while shop.one.taken["pay"] == 1:
            assert (await shop.pay()).status == 200
            await asyncio.sleep(0.2)


async def test_a_host_that_answers_500_is_out(shop: Shop) -> None:
    shop.one.status = 500
    try:
        seen = Counter([(await shop.get("/pair"))[0] for _ in range(20)])
        await asyncio.sleep(1)
        assert seen[500] <= 4  # three in a row, and one that was under way
        assert [(await shop.get("/pair"))[0] for _ in range(10)] == [200] * 10
    finally:
        shop.one.status = 200


async def test_beyond_the_breaker_nothing_is_sent_and_the_answer_says_so(shop: Shop) -> None:
    shop.one.hold = asyncio.Event()
    try:
        waiting = [asyncio.create_task(shop.get("/narrow")) for _ in range(8)]
        done, still = await asyncio.wait(waiting, timeout=2)
        # One connection (but each of Envoy's two threads may always have one), and one that waits.
        assert len(still) in (2, 3)
        assert {task.result() for task in done} == {(503, "unavailable")}
        assert 1 <= shop.one.taken["/narrow"] <= 2
        shop.one.hold.set()
        assert {await task for task in still} == {(200, None)}
        assert shop.one.taken["/narrow"] == len(still)
    finally:
        shop.one.hold = None


async def test_envoy_resolves_names_itself(shop: Shop) -> None:
    async with asyncio.timeout(20):
        while (await shop.get("/named"))[0] != 200:
            await asyncio.sleep(0.1)
    assert shop.one.taken["/named"] == 1


async def test_a_service_with_another_name_than_the_policy_says_gets_nothing(shop: Shop) -> None:
    assert await shop.get("/misnamed") == (503, "unavailable")
    assert shop.private.taken["/misnamed"] == 0


async def test_a_rotated_certificate_is_shown_without_a_restart(shop: Shop) -> None:
    assert (await shop.get("/private"))[0] == 200
    before = shop.private.shown[-1]
    rotated = shop.client_certificate()
    assert int(before, 16) != int(rotated, 16)
    async with asyncio.timeout(20):
        while int(shop.private.shown[-1], 16) != int(rotated, 16):
            await asyncio.sleep(4.5)  # Envoy closes an idle connection after 4 s; the next one shows the new one
            assert (await shop.get("/private"))[0] == 200


async def test_envoys_reports_reach_the_control_planes_metrics(shop: Shop) -> None:
    for _ in range(10):
        assert (await shop.get("/pair"))[0] == 200
    line = 'paymesh_upstream_requests_total{cluster="pair|v1",result="success"}'
    async with asyncio.timeout(20):
        while not any(text.startswith(line) and float(text.split()[-1]) >= 10 for text in await shop.metrics()):
            await asyncio.sleep(0.2)
