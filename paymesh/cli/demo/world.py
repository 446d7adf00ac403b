"""Owns what a demo scenario acts with: merchants that sign, the gateway, and a look at what the services received."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from paymesh.cli.demo.signing import HmacMerchant, WechatMerchant, WechatPlatform

MCHID = "1900007291"
SERIAL_NO = "408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB"
SPLIT_MERCHANTS = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, object]:
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def reason(self) -> str:
        return self.headers.get("x-pay-reason", "")

    @property
    def request_id(self) -> str:
        return self.headers.get("x-pay-request-id", "")

    def refusal(self) -> str:
        """Status, the protocol's code and our reason, as the table shows them."""
        return f"{self.status} {self.document.get('code', 'no code')} ({self.reason or 'no reason'})"


class World:
    """One run of the demo. Order numbers are new in every run, so that it can be run again on the same books."""

    def __init__(self, session: aiohttp.ClientSession, gateway: str, keys: Path, samples: Mapping[str, str]) -> None:
        self._session = session
        self.gateway = gateway
        self._samples = samples
        self.keys = keys
        self.run = secrets.token_hex(4)
        self.bookshop = WechatMerchant.from_file(MCHID, SERIAL_NO, keys / "wechat_merchant.pem")
        self.teahouse = HmacMerchant.from_file("teahouse-2026", keys / "hmac_card.key")
        self.smallstall = HmacMerchant.from_file("smallstall-2026", keys / "hmac_limited.key")
        self.platform = WechatPlatform.from_folder(keys)
        self.split_merchants = [
            HmacMerchant.from_file(name, keys / "split" / f"{name}.key")
            for name in (f"split-{number:03}" for number in range(SPLIT_MERCHANTS))
        ]

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Send exactly these bytes to the gateway: nothing is re-encoded, nothing is followed."""
        url = URL(f"http://{self.gateway}{target}", encoded=True)
        async with self._session.request(
            method, url, headers=headers, data=body or None, allow_redirects=False, skip_auto_headers=["Content-Type"]
        ) as response:
            return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read())

    async def pay(
        self,
        document: Mapping[str, object],
        merchant: HmacMerchant | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> Answer:
        """A payment of a generic merchant, signed."""
        body = json.dumps(document, ensure_ascii=False).encode()
        signed = (merchant or self.teahouse).headers("POST", "/v1/payments", body)
        return await self.send("POST", "/v1/payments", {**JSON, **signed, **(extra or {})}, body)

    async def wechat_order(self, order_no: str, total: int = 100) -> Answer:
        """A native order of the WeChat merchant, signed."""
        target = "/v3/pay/transactions/native"
        body = json.dumps(
            {
                "appid": "wx8888888888888888",
                "mchid": MCHID,
                "description": "茶叶 250g",
                "out_trade_no": order_no,
                "notify_url": "https://merchant.example/notify",
                "amount": {"total": total, "currency": "CNY"},
            },
            ensure_ascii=False,
        ).encode()
        return await self.send("POST", target, {**JSON, **self.bookshop.headers("POST", target, body)}, body)

    async def wechat_state(self, order_no: str) -> str:
        """The order's state as its merchant sees it by a signed query."""
        target = f"/v3/pay/transactions/out-trade-no/{order_no}?mchid={MCHID}"
        answer = await self.send("GET", target, self.bookshop.headers("GET", target))
        return str(answer.document.get("trade_state") or answer.document.get("code"))

    def notice(self, order_no: str, total: int = 100) -> dict[str, object]:
        """What the provider notifies about a paid order, before encryption."""
        return {
            "mchid": MCHID,
            "appid": "wx8888888888888888",
            "out_trade_no": order_no,
            "transaction_id": f"42000{self.run}",
            "trade_state": "SUCCESS",
            "amount": {"total": total, "currency": "CNY"},
        }

    async def received(self, service: str, request_id: str) -> dict[str, object]:
        """What a sample service really received: method, path, headers (lower case), body text. Empty if nothing."""
        url = f"http://{self._samples[service]}/_sample/received?request_id={request_id}"
        async with self._session.get(url) as response:
            found = await response.json()
        return found[0] if isinstance(found, list) and found else found if isinstance(found, dict) else {}

    async def received_body(self, service: str, request_id: str) -> dict[str, object]:
        found = json.loads(str((await self.received(service, request_id)).get("body") or "{}"))
        return found if isinstance(found, dict) else {}


JSON = {"Content-Type": "application/json"}
