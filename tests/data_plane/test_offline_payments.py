"""Offline payments through a real Envoy: told by authenticated merchants, kept once, and never confirmed before."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt
import pytest
import pytest_asyncio

from paymesh.cli.demo.http_signing import HttpSignatureMerchant
from paymesh.cli.demo.world import JSON, Answer, World
from paymesh.cli.stack.local_stack import DEMO_POLICY, LocalStack, StackOptions
from paymesh.cli.stack.ports import Ports
from paymesh.payments.events.log import START
from paymesh.payments.events.open_log import open_log
from paymesh.payments.events.types import Event, OfflineRecorded, ToldBy
from tests.contract.valkey_process import ValkeyProcess, running_valkey

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="module")]
PATH = "/v1/offline-payments"
PAN = "6222021234567890128"
POLICY = """
merchants:
  - id: florist
    routes: [offline-payments, offline-payment]
    credentials:
      - scheme: http_signature
        key_id: florist-2026
        algorithm: ed25519
        public_key: {file: "${PAYMESH_DEMO_KEYS:-none}/http_signature_pub.pem"}
      - {scheme: jwt, issuer: demo, subject: florist}
"""


@dataclass
class Till:
    stack: LocalStack
    world: World
    valkey: ValkeyProcess

    async def tell(self, body: bytes, extra: dict[str, str] | None = None, **signed: Any) -> Answer:
        headers = (signed.get("merchant") or self.world.teahouse).headers("POST", PATH, signed.get("as_if", body))
        return await self.world.send("POST", PATH, {**JSON, **headers, **(extra or {})}, body)

    async def see(self, reference: str, merchant: Any = None) -> Answer:
        target = f"{PATH}/{reference}"
        signer = merchant or self.world.teahouse
        return await self.world.send("GET", target, signer.headers("GET", target))

    async def events(self) -> list[Event]:
        log = open_log(self.valkey.url, 20)
        try:
            return [one.event for one in await log.read(START, 10_000)]
        finally:
            await log.close()

    async def of(self, reference: str) -> list[OfflineRecorded]:
        return [one for one in await self.events() if isinstance(one, OfflineRecorded) and one.reference == reference]


def payment(reference: str, **changed: object) -> bytes:
    first = {
        "reference": reference,
        "amount": {"total": 8800, "currency": "CNY"},
        "method": "cash",
        "paid_at": "2026-03-01T12:30:00+08:00",
        "store": "S1",
    }
    return json.dumps(first | changed, ensure_ascii=False).encode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def till(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Till]:
    folder = tmp_path_factory.mktemp("offline")
    with running_valkey(folder, "appendonly yes", "appendfsync always") as valkey:
        (folder / "florist.yaml").write_text(POLICY)
        options = StackOptions(
            policy=(DEMO_POLICY, folder / "florist.yaml"),
            run_dir=folder / "run",
            ports=Ports.random(),
            more={"ledger": ("--events", valkey.url)},
            log_level="debug",
        )
        async with LocalStack(options, say=lambda _: None) as stack:
            await stack.ready()
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
                yield Till(stack, World(session, stack.ports.address("gateway"), stack.keys, {}), valkey)


async def test_what_was_told_is_recorded_once(till: Till) -> None:
    first = await till.tell(payment("R-1", order_no="ORDER-1"))
    assert (first.status, first.headers["content-type"]) == (201, "application/json; charset=utf-8")
    assert first.document["id"] == "offline:teahouse:R-1"
    assert first.document["paid_at"] == "2026-03-01T04:30:00Z"
    assert first.request_id
    (record,) = await till.of("R-1")
    assert (record.merchant, record.amount, record.currency, record.told_by) == (
        "teahouse", 8800, "CNY", ToldBy.MERCHANT,
    )  # fmt: skip
    again = await till.tell(payment("R-1", order_no="ORDER-1", paid_at="2026-03-01T04:30:00Z"))
    assert (again.status, again.document) == (200, first.document), "the same moment, written otherwise"
    conflict = await till.tell(payment("R-1", order_no="ORDER-1", amount={"total": 8801, "currency": "CNY"}))
    assert conflict.refusal() == "409 reference_conflict (reference_conflict)"
    assert await till.of("R-1") == [record]
    assert (await till.see("R-1")).document == first.document


async def test_of_many_at_once_one_is_the_first(till: Till) -> None:
    answers = await asyncio.gather(*(till.tell(payment("R-2")) for _ in range(12)))
    assert sorted(answer.status for answer in answers) == [200] * 11 + [201]
    assert len(await till.of("R-2")) == 1


async def test_a_merchant_tells_for_itself_alone(till: Till) -> None:
    forged = await till.tell(payment("R-3"), {"x-pay-merchant": "smallstall"})
    assert (forged.status, forged.document["merchant"]) == (201, "teahouse")
    assert (await till.see("R-3", till.world.smallstall)).refusal() == "404 reference_unknown (reference_unknown)"
    assert (await till.tell(payment("R-3"), merchant=till.world.smallstall)).status == 201
    assert sorted(one.merchant for one in await till.of("R-3")) == ["smallstall", "teahouse"]


async def test_message_signatures_and_tokens_tell_who_it_is(till: Till) -> None:
    def signer(key_id: str) -> HttpSignatureMerchant:
        key = till.world.keys / "http_signature.pem"
        return HttpSignatureMerchant.from_file(key_id, key, f"http://{till.world.gateway}")

    def bearer(subject: str) -> dict[str, str]:
        now = int(time.time())
        claims = {"iss": "https://id.example", "aud": "paymesh", "sub": subject, "iat": now, "exp": now + 60}
        key = (till.world.keys / "jwt_issuer.pem").read_bytes()
        return {**JSON, "Authorization": f"Bearer {jwt.encode(claims, key, 'RS256', {'kid': 'demo-2026'})}"}

    async def signed(key_id: str, reference: str) -> Answer:
        request = signer(key_id).request("POST", PATH, json.loads(payment(reference)))
        return await till.world.send(request.method, request.target, request.headers, request.body)

    assert (await signed("florist-2026", "R-12")).status == 201
    assert (await till.world.send("POST", PATH, bearer("florist"), payment("R-13"))).status == 201
    assert [one.merchant for name in ("R-12", "R-13") for one in await till.of(name)] == ["florist", "florist"]
    # The cinema's operations are without `bill`.
    refusal = "403 not_permitted (not_permitted)"
    assert (await signed("cinema-2026", "R-14")).refusal() == refusal
    assert (await till.world.send("POST", PATH, bearer("cinema"), payment("R-14"))).refusal() == refusal
    assert await till.of("R-14") == []


async def test_who_is_not_authenticated_records_nothing(till: Till) -> None:
    bare = await till.world.send("POST", PATH, JSON, payment("R-4"))
    assert bare.refusal() == "401 credential_missing (credential_missing)"
    changed = await till.tell(payment("R-4", amount={"total": 1, "currency": "CNY"}), as_if=payment("R-4"))
    assert changed.refusal() == "401 credential_invalid (credential_invalid)"
    assert await till.of("R-4") == []


async def test_who_comes_around_the_gateway_is_refused(till: Till) -> None:
    url = f"http://{till.stack.ports.address('ledger')}{PATH}"
    async with aiohttp.ClientSession() as session, session.post(url, data=payment("R-5"), headers=JSON) as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "unavailable")
    assert await till.of("R-5") == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (payment("R-6", method="barter", amount={"total": 88.5, "currency": "cny"}),
         ["/amount/total", "/amount/currency", "/method"]),
        (payment("R 6", paid_at="2126-01-01T00:00:00Z"), ["/reference", "/paid_at"]),
        (b'{"reference":"R-6","reference":"R-7"}', ["twice"]),
        (payment("R-6", note="card " + PAN), ["/note"]),
    ],
)  # fmt: skip
async def test_everything_that_is_wrong_is_told(till: Till, body: bytes, told: list[str]) -> None:
    answer = await till.tell(body)
    assert answer.status == 400
    assert answer.reason == answer.document["code"]
    assert all(place in str(answer.document["message"]) for place in told)
    assert not {one.reference for one in await till.events() if isinstance(one, OfflineRecorded)} & {"R-6", "R 6"}


async def test_a_card_number_is_found_in_no_log(till: Till) -> None:
    for body in (payment("R-8", note=PAN), payment(PAN), payment("R-8", **{PAN: 1}), f'{{"note":"{PAN}"'.encode()):
        answer = await till.tell(body)
        assert answer.status == 400
        assert PAN.encode() not in answer.body
    await asyncio.sleep(0.5)  # the access log is written behind
    logs = {file.name: file.read_text(errors="replace") for file in till.stack.logs.iterdir()}
    assert "offline_payment" in logs["ledger.log"]
    assert [name for name, text in logs.items() if PAN in text] == []
    assert PAN not in str(await till.events())


async def test_its_document_is_answered(till: Till) -> None:
    answer = await till.see("openapi.json")
    assert (answer.status, answer.document["openapi"]) == (200, "3.1.0")


async def test_a_method_it_does_not_have_is_refused_by_the_gateway(till: Till) -> None:
    headers = till.world.teahouse.headers("DELETE", f"{PATH}/R-1")
    assert (await till.world.send("DELETE", f"{PATH}/R-1", headers)).status == 404


async def test_while_the_log_is_away_nothing_is_confirmed_and_nothing_lost(till: Till) -> None:
    assert (await till.tell(payment("R-9"))).status == 201
    till.valkey.kill()
    away = await till.tell(payment("R-10"))
    assert away.refusal() == "503 unavailable (unavailable)"
    assert (await till.see("R-9")).status == 503
    till.valkey.start()
    answer = await _until(lambda: till.tell(payment("R-10")))
    assert answer.status in (200, 201)
    assert len(await till.of("R-10")) == 1
    assert len(await till.of("R-9")) == 1
    assert (await till.tell(payment("R-9"))).status == 200


async def test_killed_it_loses_nothing_that_it_confirmed(till: Till) -> None:
    pid = till.stack.pid("ledger")
    assert pid is not None
    told = [asyncio.create_task(till.tell(payment(f"R-11-{number}"))) for number in range(20)]
    await asyncio.sleep(0.02)
    till.stack.kill("ledger")
    answers = await asyncio.gather(*told)
    assert {answer.status for answer in answers} <= {201, 503}
    await till.stack.wait_ready("ledger")
    for number, answer in enumerate(answers):
        if answer.status == 201:
            assert len(await till.of(f"R-11-{number}")) == 1, "confirmed and lost"
    again = await _until(lambda: till.tell(payment("R-11-0")))
    assert again.status in (200, 201)


async def _until(ask: Callable[[], Any], within_s: float = 20) -> Answer:
    """Asks until it is no longer 503."""
    deadline = time.monotonic() + within_s
    while True:
        answer: Answer = await ask()
        if answer.status != 503 or time.monotonic() > deadline:
            return answer
        await asyncio.sleep(0.1)
