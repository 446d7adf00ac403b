"""Owns the Alipay SDKs as the tests use them: one merchant each, and the calls of one order's life."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from paymesh.cli.demo.signing import load_key
from tests.sdk.environments import ALIPAY_COMMUNITY, ALIPAY_OFFICIAL, CHINA, SdkEnvironment

APP_ID = "2021000000000001"
CERTIFICATE_APP_ID = "2021000000000002"
READER_APP_ID = "2021000000000003"
LIMITED_APP_ID = "2021000000000004"


@dataclass(frozen=True, slots=True)
class SdkMerchant:
    """A published SDK with its keys, as a merchant would configure it."""

    environment: SdkEnvironment
    keys: Mapping[str, str] = field(repr=False)

    async def call(self, url: str, *calls: Mapping[str, Any], timezone: str = CHINA) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self.environment.call, url, self.keys, calls, timezone)


def official(folder: Path) -> SdkMerchant:
    return SdkMerchant(
        ALIPAY_OFFICIAL,
        {
            "app_id": APP_ID,
            # It reads the old form only (PKCS#1), without the lines around it or with them.
            "private_key": pkcs1(folder / "alipay_merchant.pem"),
            "alipay_public_key": (folder / "alipay_platform_pub.pem").read_text(),
        },
    )


def community(folder: Path) -> SdkMerchant:
    return SdkMerchant(
        ALIPAY_COMMUNITY,
        {
            "app_id": APP_ID,
            "private_key": (folder / "alipay_merchant.pem").read_text(),
            "alipay_public_key": (folder / "alipay_platform_pub.pem").read_text(),
        },
    )


def community_by_certificate(folder: Path) -> SdkMerchant:
    return SdkMerchant(
        ALIPAY_COMMUNITY,
        {
            "app_id": CERTIFICATE_APP_ID,
            "private_key": (folder / "alipay_app.pem").read_text(),
            "app_certificate": (folder / "alipay_app.crt").read_text(),
            "alipay_certificate": (folder / "alipay_platform.crt").read_text(),
            "alipay_roots": (folder / "alipay_root.crt").read_text(),
        },
    )


MERCHANTS = {"official": official, "community": community, "by certificate": community_by_certificate}


def order_number() -> str:
    """New in every test, so that tests can share the books."""
    return f"sdk-{secrets.token_hex(8)}"


def order(number: str, amount: str = "88.88") -> dict[str, str]:
    return {"out_trade_no": number, "total_amount": amount, "subject": "测试 100%+商品&A=1"}


def precreate(number: str, amount: str = "88.88") -> dict[str, Any]:
    return {"action": "precreate", "biz_content": order(number, amount)}


def pay(number: str, amount: str = "88.88") -> dict[str, Any]:
    bar_code = {"scene": "bar_code", "auth_code": "28763443825664394"}
    return {"action": "pay", "biz_content": {**order(number, amount), **bar_code}}


def query(number: str) -> dict[str, Any]:
    return {"action": "query", "biz_content": {"out_trade_no": number}}


def refund(number: str, amount: str) -> dict[str, Any]:
    content = {"out_trade_no": number, "refund_amount": amount, "out_request_no": f"{number}-r"}
    return {"action": "refund", "biz_content": content}


def close(number: str) -> dict[str, Any]:
    return {"action": "close", "biz_content": {"out_trade_no": number}}


def pkcs1(file: Path) -> str:
    """The key in PEM of PKCS#1."""
    return (
        load_key(file)
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        .decode()
    )


def content(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The object of an answer whose signature the SDK verified. Fails with what the SDK raised."""
    assert "result" in outcome, outcome
    result = outcome["result"]
    found = result.get("content", result)
    assert isinstance(found, dict)
    return found
