"""TLS and mTLS: real handshakes with certificates made here."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from paymesh.server.binding import bind, new_server
from paymesh.server.startup import StartupError
from paymesh.server.tls import TlsOptions, server_credentials

NOW = datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def write(self, folder: Path, name: str) -> TlsOptions:
        (folder / f"{name}.pem").write_bytes(self.pem)
        (folder / f"{name}.key").write_bytes(self.key_pem)
        return TlsOptions(folder / f"{name}.pem", folder / f"{name}.key")


def issue(name: str, issuer: Pair | None = None) -> Pair:
    """A certificate for localhost, signed by `issuer`, or an authority of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(hours=1))
        .not_valid_after(NOW + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(key if issuer is None else issuer.key, hashes.SHA256())
    )
    return Pair(certificate, key)


@pytest.fixture(scope="module")
def authority() -> Pair:
    return issue("authority")


@pytest.fixture
async def server() -> AsyncIterator[grpc.aio.Server]:
    server = new_server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    yield server
    await server.stop(None)


async def call(address: str, credentials: grpc.ChannelCredentials) -> bool:
    """Whether a health check comes through."""
    target = f"localhost:{address.rpartition(':')[2]}"
    async with grpc.aio.secure_channel(target, credentials) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=3)
        except grpc.aio.AioRpcError:
            return False
    return True


async def test_tls_shows_the_certificate(server: grpc.aio.Server, authority: Pair, tmp_path: Path) -> None:
    address = bind(server, "127.0.0.1:0", issue("gateway", authority).write(tmp_path, "server"))
    await server.start()
    assert await call(address, grpc.ssl_channel_credentials(authority.pem))
    assert not await call(address, grpc.ssl_channel_credentials(issue("another").pem))


async def test_mtls_wants_a_certificate_of_its_authority(
    server: grpc.aio.Server, authority: Pair, tmp_path: Path
) -> None:
    files = issue("gateway", authority).write(tmp_path, "server")
    clients = issue("clients")
    address = bind(
        server, "127.0.0.1:0", TlsOptions(files.certificate, files.key, clients.write(tmp_path, "ca").certificate)
    )
    await server.start()
    known, stranger = issue("envoy", clients), issue("envoy", authority)
    trust = authority.pem
    assert await call(address, grpc.ssl_channel_credentials(trust, known.key_pem, known.pem))
    assert not await call(address, grpc.ssl_channel_credentials(trust, stranger.key_pem, stranger.pem))
    assert not await call(address, grpc.ssl_channel_credentials(trust))


def test_files_that_do_not_fit_are_named(authority: Pair, tmp_path: Path) -> None:
    one, two = (issue(name, authority).write(tmp_path, name) for name in ("one", "two"))
    with pytest.raises(StartupError, match=r"one\.pem with .*two\.key: KEY_VALUES_MISMATCH"):
        server_credentials(TlsOptions(one.certificate, two.key))
    with pytest.raises(StartupError, match=r"absent\.pem: No such file"):
        server_credentials(TlsOptions(one.certificate, one.key, tmp_path / "absent.pem"))
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(StartupError, match=r"empty\.pem"):
        server_credentials(TlsOptions(one.certificate, one.key, tmp_path / "empty.pem"))


def test_an_encrypted_key_is_an_error_and_no_prompt(authority: Pair, tmp_path: Path) -> None:
    pair = issue("one", authority)
    files = pair.write(tmp_path, "one")
    files.key.write_bytes(
        pair.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"a password"),
        )
    )
    with pytest.raises(StartupError, match=r"one\.key"):
        server_credentials(files)
