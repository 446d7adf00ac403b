"""Drives alipay-sdk-python, the official SDK, in an environment of its own. JSON in on stdin, JSON out on stdout.

Owns nothing but the SDK's configuration and one change, without which the SDK reaches no port but 80 and 443.
"""

from __future__ import annotations

import http.client
import importlib
import json
import sys
from typing import Any
from urllib.parse import urlsplit

from alipay.aop.api.AlipayClientConfig import AlipayClientConfig
from alipay.aop.api.DefaultAlipayClient import DefaultAlipayClient
from alipay.aop.api.util import WebUtils


def main() -> None:
    job = json.load(sys.stdin)
    send_to(urlsplit(job["url"]).port or 80)
    json.dump([outcome(job, call) for call in job["calls"]], sys.stdout)


def send_to(port: int) -> None:
    """Let the SDK connect to `port` of the host in its server_url.

    Its connection has port 80 (https: 443) written into it; an explicit port in server_url is added to a string as a
    number and raises TypeError; it knows no proxy setting; and a forwarder on port 80 would need root and could run
    once a machine. So the socket's port is the one thing changed. What is written to it stays the SDK's own.
    """

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.port = port
            super().connect()

    class OnlyHere:
        HTTPConnection = Connection
        HTTPSConnection = http.client.HTTPSConnection

    WebUtils.httplib = OnlyHere


def outcome(job: dict[str, Any], call: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": perform(client_of(job, call), call)}
    except Exception as error:
        return {"exception": type(error).__name__, "text": str(error)}


def client_of(job: dict[str, Any], call: dict[str, Any]) -> DefaultAlipayClient:
    keys = {**job["keys"], **call.get("keys", {})}
    config = AlipayClientConfig()
    url = urlsplit(job["url"])
    config.server_url = f"{url.scheme}://{url.hostname}{url.path}"
    config.app_id = keys["app_id"]
    config.app_private_key = keys["private_key"]
    config.alipay_public_key = keys["alipay_public_key"]
    config.charset = call.get("charset", "utf-8")
    return DefaultAlipayClient(alipay_client_config=config)


def perform(client: DefaultAlipayClient, call: dict[str, Any]) -> dict[str, Any]:
    name = f"AlipayTrade{call['action'].capitalize()}"
    model = part("domain", f"{name}Model")()
    for field, value in call["biz_content"].items():
        setattr(model, field, value)
    request = part("request", f"{name}Request")(biz_model=model)
    for field, value in call.get("request", {}).items():
        setattr(request, field, value)
    # Empty answers and answers without a valid signature raise here.
    content = client.execute(request)
    response = part("response", f"{name}Response")()
    response.parse_response_content(content)
    read = ("code", "msg", "sub_code", "sub_msg")
    return {
        "success": response.is_success(),
        **{field: getattr(response, field) for field in read},
        "content": json.loads(content),
    }


def part(kind: str, name: str) -> Any:
    return getattr(importlib.import_module(f"alipay.aop.api.{kind}.{name}"), name)


if __name__ == "__main__":
    main()
