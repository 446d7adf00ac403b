"""Drives python-alipay-sdk in an environment of its own. JSON in on stdin, JSON out on stdout.

Owns nothing but the SDK's configuration: the gateway's address is its private `_gateway`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from alipay import AliPay, DCAliPay, ISVAliPay


def main() -> None:
    job = json.load(sys.stdin)
    json.dump([outcome(job, call) for call in job["calls"]], sys.stdout)


def outcome(job: dict[str, Any], call: dict[str, Any]) -> dict[str, Any]:
    try:
        sdk = client_of({**job["keys"], **call.get("keys", {})})
        sdk._gateway = job["url"]
        if call["action"] == "verify_notification":
            fields = dict(call["fields"])
            return {"result": sdk.verify(fields, fields.pop("sign"))}
        return {"result": getattr(sdk, f"api_alipay_trade_{call['action']}")(**call["biz_content"])}
    except Exception as error:
        body = error.read().decode() if hasattr(error, "read") else ""
        return {"exception": type(error).__name__, "text": str(error), "body": body}


def client_of(keys: dict[str, str]) -> AliPay:
    common = {"appid": keys["app_id"], "app_private_key_string": keys["private_key"]}
    if "app_certificate" in keys:
        return DCAliPay(
            **common,
            app_public_key_cert_string=keys["app_certificate"],
            alipay_public_key_cert_string=keys["alipay_certificate"],
            alipay_root_cert_string=keys["alipay_roots"],
        )
    common["alipay_public_key_string"] = keys["alipay_public_key"]
    if "app_auth_token" in keys:
        return ISVAliPay(**common, app_auth_token=keys["app_auth_token"])
    return AliPay(**common)


if __name__ == "__main__":
    main()
