"""Between Envoy and the deciding services: mTLS, and nothing passes where the names do not fit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from paymesh.cli.stack.local_stack import LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from tests.data_plane.certificates import Issuer, build, write

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio]
POLICY = """
services: [{{name: pages, versions: [{{name: v1, endpoints: [{{address: 127.0.0.1, port: {port}}}]}}]}}]
routes: [{{name: pages, match: {{prefix: /pages/}}, operation: other, service: pages}}]
"""


@pytest.mark.parametrize(("name", "status"), [("deciding.internal", 200), ("other.internal", 503)])
async def test_envoy_and_the_services_prove_to_each_other_who_they_are(tmp_path: Path, name: str, status: int) -> None:
    keys = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(3)]
    authority = Issuer(keys[0], build("authority", keys[0], None))
    ca, _ = write(tmp_path, "ca", keys[0], authority.certificate)
    own = build("deciding", keys[1], authority, x509.DNSName("deciding.internal"))
    certificate, key = write(tmp_path, "deciding", keys[1], own)
    envoy = write(tmp_path, "envoy", keys[2], build("envoy", keys[2], authority))
    app = web.Application()
    app.router.add_get("/{any:.*}", _page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(port=runner.addresses[0][1]))
    # They take nobody without a certificate: not even the stack's own look at whether they are ready.
    theirs = ("--tls-cert", str(certificate), "--tls-key", str(key), "--tls-client-ca", str(ca))
    envoys = ("--deciding-tls-ca", str(ca), "--deciding-tls-name", name)
    shown = ("--deciding-tls-cert", str(envoy[0]), "--deciding-tls-key", str(envoy[1]))
    options = StackOptions(
        policy=(policy,),
        run_dir=tmp_path / "run",
        ports=Ports.random(),
        more={"ext_authz": theirs, "ext_proc": theirs, "control_plane": (*envoys, *shown)},
    )
    async with LocalStack(options, say=lambda _: None) as stack, aiohttp.ClientSession() as session:
        await stack.wait_ready("envoy")
        url = f"http://{stack.ports.address('gateway')}/pages/1"
        async with asyncio.timeout(30):
            while True:
                async with session.get(url) as answer:
                    seen = answer.status
                if seen == 200 or status != 200:
                    break
                await asyncio.sleep(0.2)
        assert seen == status
        if status != 200:
            await asyncio.sleep(2)
            async with session.get(url) as answer:
                assert (answer.status, answer.headers["x-pay-reason"]) == (503, "unavailable")
    await runner.cleanup()


async def _page(_: web.Request) -> web.Response:
    return web.Response(text="page")
