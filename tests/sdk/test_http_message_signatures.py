"""The published `http-message-signatures` (RFC 9421) with `requests`, as a merchant through the real Envoy."""

from __future__ import annotations

import asyncio
import datetime
import json
import secrets
from collections.abc import Sequence
from typing import Any

import pytest
import requests
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver, algorithms

from paymesh.cli.stack.local_stack import LocalStack

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="session")]

COVERED = ("@method", "@target-uri", "content-digest", "content-type")


class Keys(HTTPSignatureKeyResolver):
    """The merchant's one key."""

    def __init__(self, pem: bytes) -> None:
        self._pem = pem

    def resolve_private_key(self, key_id: str) -> bytes:
        return self._pem

    def resolve_public_key(self, key_id: str) -> bytes:
        raise NotImplementedError  # a client that signs only


class Shop:
    """A merchant: what it prepares can be changed before it is sent."""

    def __init__(self, stack: LocalStack, key: str = "http_signature.pem") -> None:
        self._url = f"http://{stack.ports.address('gateway')}/v1/payments"
        self._signer = HTTPMessageSigner(
            signature_algorithm=algorithms.ED25519, key_resolver=Keys((stack.keys / key).read_bytes())
        )

    def payment(
        self, covered: Sequence[str] = COVERED, created: datetime.datetime | None = None, **options: Any
    ) -> requests.PreparedRequest:
        document = {"order_no": f"hms-{secrets.token_hex(8)}", "amount": {"total": 100, "currency": "CNY"}}
        body = json.dumps(document).encode()
        prepared = requests.Request(
            "POST", self._url, data=body, headers={"Content-Type": "application/json"}
        ).prepare()
        self._signer.sign(
            prepared,
            key_id="shop-ed25519",
            created=created or datetime.datetime.now(datetime.UTC),
            nonce=secrets.token_hex(16),
            covered_component_ids=tuple(covered),
            # Given the body, the library adds the digest and covers it, whatever is asked for.
            body=body if "content-digest" in covered else None,
            **options,
        )
        return prepared


async def send(prepared: requests.PreparedRequest) -> tuple[int, str]:
    """Status and our reason."""

    def blocking() -> tuple[int, str]:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.send(prepared, timeout=20)
            return answer.status_code, answer.headers.get("x-pay-reason", "")

    return await asyncio.to_thread(blocking)


@pytest.fixture
def shop(shops: LocalStack) -> Shop:
    return Shop(shops)


@pytest.mark.parametrize("options", [{}, {"include_alg": False}, {"label": "sig-b24", "tag": "paymesh"}])
async def test_a_signed_payment_is_accepted(shop: Shop, options: dict[str, Any]) -> None:
    assert await send(shop.payment(**options)) == (200, "")


async def test_the_path_alone_will_do(shop: Shop) -> None:
    assert await send(shop.payment(covered=("@method", "@path", "content-digest"))) == (200, "")


async def test_a_changed_body_is_refused_although_the_signature_still_verifies(shop: Shop) -> None:
    """The digest is covered, the body is not: who checks the signature only lets this pass."""
    prepared = shop.payment()
    assert isinstance(prepared.body, bytes)
    prepared.body = prepared.body.replace(b"100", b"001")
    assert await send(prepared) == (401, "credential_invalid")


@pytest.mark.parametrize("missing", COVERED[:3])
async def test_what_decides_must_be_covered(shop: Shop, missing: str) -> None:
    assert await send(shop.payment(covered=[name for name in COVERED if name != missing])) == (
        401,
        "credential_invalid",
    )


async def test_a_covered_header_may_not_change(shop: Shop) -> None:
    prepared = shop.payment()
    prepared.headers["Content-Type"] = "application/json; charset=utf-8"
    assert await send(prepared) == (401, "credential_invalid")


async def test_the_same_request_twice(shop: Shop) -> None:
    prepared = shop.payment()
    assert [await send(prepared), await send(prepared)] == [(200, ""), (401, "nonce_replayed")]


async def test_yesterdays_signature(shop: Shop) -> None:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    assert await send(shop.payment(created=yesterday)) == (401, "timestamp_expired")
