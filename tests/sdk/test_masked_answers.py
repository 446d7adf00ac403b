"""Masked answers that the published SDKs verify, whatever shape they had.

The SDKs verify as they always do. What they trust here is the gateway's own key, which no upstream has.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from paymesh.cli.demo.signing import load_key
from paymesh.cli.samples.alipay_trade import parameters_of
from paymesh.cli.stack.demo_certificates import authority, issue, public_pem
from paymesh.cli.stack.demo_keys import ensure_demo_keys
from paymesh.payments.answer_signing import sign_answer
from paymesh.payments.policy.compiled import Protocol
from paymesh.payments.signers import Signer
from tests.sdk.alipay_merchants import (
    MERCHANTS,
    SdkMerchant,
    content,
    query,
)


def masking_keys(run_dir: Path) -> Path:
    """The demo's keys, and `answers`: what the gateway signs answers with."""
    keys, _ = ensure_demo_keys(run_dir)
    answers = issue(authority("paymesh tests"), "gateway of the tests")
    (keys / "answers.pem").write_bytes(answers.key_pem)
    (keys / "answers.crt").write_bytes(answers.certificate_pem)
    (keys / "answers_pub.pem").write_bytes(public_pem(answers.key))
    return keys


def trusting(sdk: str, keys: Path, signer: str = "answers") -> SdkMerchant:
    """A merchant that trusts the key `signer` as the provider's."""
    merchant = MERCHANTS[sdk](keys)
    certificates = sdk == "by certificate"
    name, file = ("alipay_certificate", ".crt") if certificates else ("alipay_public_key", "_pub.pem")
    return replace(merchant, keys={**merchant.keys, name: (keys / f"{signer}{file}").read_text()})


# -- every shape of an answer ------------------------------------------------------------------------------------------

INSIDE = '{"code":"10000","msg":"Success","buyer_user_name":"李**","nested":{"sign":"x"}}'
SHAPES = {
    "as Alipay writes it": f'{{"@":{INSIDE},"sign":"b2xk"}}',
    "not signed": f'{{"@":{INSIDE}}}',
    "signed before": f'{{"sign":"b2xk","@":{INSIDE}}}',
    "white space": f'{{\n  "@" : {INSIDE} ,\n  "sign" : "b2xk"\n}}\n',
    "another certificate": f'{{"@":{INSIDE},"alipay_cert_sn":"00","sign":"b2xk"}}',
    "another certificate before": f'{{"alipay_cert_sn":"00","sign":"b2xk","@":{INSIDE}}}',
    "another certificate, not signed": f'{{"@":{INSIDE},"alipay_cert_sn":"00"}}',
}
NOT_FOR_OFFICIAL = {"another certificate"}
"""It looks for `},"sign"`, so nothing may stand between; Alipay itself writes certificate mode's answers so."""


def shapes_for(sdk: str) -> list[str]:
    return [name for name in SHAPES if sdk != "official" or name not in NOT_FOR_OFFICIAL]


def not_verified(answer: Mapping[str, Any]) -> bool:
    """Whether the SDK refused the answer's signature, and nothing else."""
    return answer.get("exception") == "AliPayValidationError" or "sign verify failed" in answer.get("text", "")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return masking_keys(tmp_path_factory.mktemp("shapes"))


@pytest.fixture
async def shapes(keys: Path) -> AsyncIterator[TestServer]:
    """Answers each query with the shape that `out_trade_no` names, signed again."""
    answers = Signer(load_key(keys / "answers.pem"), "ours")

    async def gateway(request: web.Request) -> web.Response:
        parameters = parameters_of(request.query_string, await request.read())
        number = json.loads(parameters["biz_content"])["out_trade_no"]
        charset, key = parameters["charset"], parameters["method"].replace(".", "_") + "_response"
        body, content_type = SHAPES[number].replace("@", key).encode(charset), f"text/html;charset={charset}"
        found = sign_answer(Protocol.ALIPAY_V2, answers, body, content_type, 1_800_000_000, "nonce")
        return web.Response(body=found.body, headers={"Content-Type": content_type})

    app = web.Application()
    app.router.add_route("*", "/gateway.do", gateway)
    server = TestServer(app)
    await server.start_server()
    yield server
    await server.close()


@pytest.mark.parametrize("sdk", MERCHANTS)
async def test_each_shape_is_verified_by_the_sdk(shapes: TestServer, keys: Path, sdk: str) -> None:
    names = shapes_for(sdk)
    answers = await trusting(sdk, keys).call(str(shapes.make_url("/gateway.do")), *map(query, names))
    assert len(answers) == len(names) > 0
    for name, answer in zip(names, answers, strict=True):
        assert content(answer)["buyer_user_name"] == "李**", name


async def test_each_shape_in_gbk(shapes: TestServer, keys: Path) -> None:
    names = shapes_for("official")
    calls = [{**query(name), "charset": "gbk"} for name in names]
    answers = await trusting("official", keys).call(str(shapes.make_url("/gateway.do")), *calls)
    assert [content(answer)["buyer_user_name"] for answer in answers] == ["李**"] * len(names)


@pytest.mark.parametrize("sdk", MERCHANTS)
async def test_no_shape_is_verified_by_an_sdk_that_trusts_another_key(shapes: TestServer, keys: Path, sdk: str) -> None:
    url = str(shapes.make_url("/gateway.do"))
    names = shapes_for(sdk)
    answers = await trusting(sdk, keys, "alipay_platform").call(url, *map(query, names))
    assert [not_verified(answer) for answer in answers] == [True] * len(names), answers
