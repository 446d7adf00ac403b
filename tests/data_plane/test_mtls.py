"""Merchants known by their client certificate, through a real Envoy that ends TLS."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256

from paymesh.cli.stack.local_stack import DEMO_POLICY, LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from tests.data_plane.certificates import Issuer, build, write

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="session")]
SPIFFE_ID = "spiffe://cluster.local/ns/shops/sa/cinema"


@dataclass(frozen=True)
class Gateway:
    stack: LocalStack
    folder: Path

    async def pay(self, client: str | None, order_no: str) -> tuple[int, dict[str, object], str | None]:
        """Pay as the holder of a certificate; status, document, x-pay-reason. Raises aiohttp.ClientError."""
        context = ssl.create_default_context(cafile=str(self.folder / "server-ca.crt"))
        if client is not None:
            context.load_cert_chain(self.folder / f"{client}.crt", self.folder / f"{client}.pem")
        body = json.dumps({"order_no": order_no, "amount": {"total": 100}, "product": "alipay_qr"})
        headers = {"content-type": "application/json", "x-forwarded-client-cert": f"URI={SPIFFE_ID}"}
        url = f"https://{self.stack.ports.address('gateway')}/v1/payments"
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session,
            session.post(url, data=body, headers=headers, ssl=context) as answer,
        ):
            return answer.status, await answer.json(content_type=None), answer.headers.get("x-pay-reason")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("tls")
    keys = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(6)]
    server_ca = Issuer(keys[0], build("server authority", keys[0], None))
    client_ca = Issuer(keys[1], build("client authority", keys[1], None))
    stranger_ca = Issuer(keys[2], build("nobody's authority", keys[2], None))
    write(folder, "server-ca", server_ca.key, server_ca.certificate)
    ca_file, _ = write(folder, "client-ca", client_ca.key, client_ca.certificate)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate, key = write(folder, "server", keys[3], build("gateway", keys[3], server_ca, address))
    spiffe = x509.UniformResourceIdentifier(SPIFFE_ID)
    write(folder, "cinema", keys[4], build("cinema", keys[4], client_ca, spiffe))
    write(folder, "forger", keys[4], build("cinema", keys[4], stranger_ca, spiffe))
    other = x509.UniformResourceIdentifier("spiffe://cluster.local/ns/shops/sa/other")
    write(folder, "other", keys[4], build("cinema", keys[4], client_ca, other))
    pinned = build("pinned", keys[5], client_ca, x509.DNSName("pinned.example"))
    write(folder, "pinned", keys[5], pinned)
    policy = folder / "policy"
    policy.mkdir()
    (policy / "pinned.yaml").write_text(
        "merchants: [{id: pinned, credentials: [{scheme: mtls, certificate_sha256: "
        f"{pinned.fingerprint(SHA256()).hex()}"
        "}]}]\n"
    )
    flags = ("--gateway-tls-cert", str(certificate), "--gateway-tls-key", str(key), "--gateway-tls-client-ca")
    options = StackOptions(
        policy=(DEMO_POLICY, policy),
        run_dir=folder / "run",
        ports=Ports.random(),
        more={"control_plane": (*flags, str(ca_file))},
    )
    async with LocalStack(options, say=lambda _: None) as stack:
        await stack.ready()
        yield Gateway(stack, folder)


@pytest.mark.parametrize(("client", "merchant"), [("cinema", "cinema"), ("pinned", "pinned")])
async def test_a_certificate_is_its_merchant(gateway: Gateway, client: str, merchant: str) -> None:
    status, document, reason = await gateway.pay(client, f"tls-{client}")
    assert (status, reason) == (200, None), document
    async with asyncio.timeout(10):  # log lines are written in batches
        while f'"merchant":"{merchant}"' not in (gateway.stack.logs / "ext_authz.log").read_text().replace(": ", ":"):
            await asyncio.sleep(0.05)


async def test_an_authentic_certificate_of_nobody_is_refused(gateway: Gateway) -> None:
    status, _, reason = await gateway.pay("other", "tls-other")
    assert (status, reason) == (401, "credential_invalid")


async def test_without_a_certificate_a_header_proves_nothing(gateway: Gateway) -> None:
    status, _, reason = await gateway.pay(None, "tls-none")
    assert (status, reason) == (401, "credential_missing")


async def test_a_certificate_of_another_authority_ends_the_connection(gateway: Gateway) -> None:
    with pytest.raises(aiohttp.ClientError):
        await gateway.pay("forger", "tls-forger")
