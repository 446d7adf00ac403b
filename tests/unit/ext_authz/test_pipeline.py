"""The steps in their order on real requests, offline: what passes, what is refused and with which reason."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ext_authz.check_context import CheckContext, Decision, Step
from ext_authz.pipeline import build_pipeline, decide, in_process_stores
from ext_authz.wire import upstream_headers, write_response
from paymesh.cli.demo.signing import HmacMerchant, WechatMerchant, WechatPlatform
from paymesh.payments import internal_names as names
from paymesh.payments.bodies.limits import BodyLimits, Reading
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.request import Request

REPOSITORY = Path(__file__).resolve().parents[3]
NOW_S = int(time.time())
CARD = {"order_no": "A-1", "amount": {"total": 1000, "currency": "CNY"}, "product": "card"}


@pytest.fixture(scope="module")
def policy(demo_environ: dict[str, str]) -> Policy:
    return load_policy([REPOSITORY / "examples" / "demo"], demo_environ)


class Gate:
    """The pipeline with a clock of its own."""

    def __init__(self, policy: Policy, keys: Path, steps: tuple[Step, ...] | None = None) -> None:
        self.policy = policy
        self.steps = steps or build_pipeline(in_process_stores())
        self.teahouse = HmacMerchant.from_file("teahouse-2026", keys / "hmac_card.key")
        self.smallstall = HmacMerchant.from_file("smallstall-2026", keys / "hmac_limited.key")

    async def check(self, request: Request, now_s: int = NOW_S) -> Decision:
        return await decide(self.steps, CheckContext(request, self.policy, now_s, monotonic_ns=5_000_000_000))

    async def pay(
        self,
        document: object = CARD,
        *,
        merchant: HmacMerchant | None = None,
        at_s: int = NOW_S,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Decision:
        payload = json.dumps(document).encode() if body is None else body
        signed = (merchant or self.teahouse).headers("POST", "/v1/payments", payload, at_s=at_s)
        return await self.check(
            build("POST", "/v1/payments", {"content-type": "application/json", **signed, **(headers or {})}, payload)
        )


def build(method: str, target: str, headers: dict[str, str], body: bytes = b"", route: str | None = None) -> Request:
    return Request(method, target, {k.lower(): (v,) for k, v in headers.items()}, body, "id-1", route)


@pytest.fixture
def gate(policy: Policy, demo_keys: Path) -> Gate:
    return Gate(policy, demo_keys)


def reason(decision: Decision) -> Reason | None:
    return None if decision.denial is None else decision.denial.reason


async def test_a_card_payment_passes_every_step(gate: Gate) -> None:
    decision = await gate.pay()
    assert decision.denial is None, decision.denial
    assert [record.step for record in decision.steps] == [
        "route",
        "credential",
        "permission",
        "replay",
        "limits",
        "user",
        "fields",
        "channel",
        "limits_late",
        "head",
        "version",
        "order",
    ]
    headers = dict(upstream_headers(decision))
    assert headers[names.CHANNEL_HEADER] == "card"
    assert headers[names.MERCHANT_HEADER] == "teahouse"
    assert headers[names.OPERATION_HEADER] == "pay"
    assert len(headers[names.SPLIT_HEADER]) == 16


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({**CARD, "order_no": None}, Reason.FIELD_INVALID),
        ({**CARD, "order_no": "with space"}, Reason.FIELD_INVALID),
        ({**CARD, "amount": {"total": 10.0}}, Reason.FIELD_INVALID),
        ({**CARD, "amount": {"total": True}}, Reason.FIELD_INVALID),
        ({**CARD, "amount": {"total": "1000"}}, Reason.FIELD_INVALID),
        ({**CARD, "amount": {"total": 0}}, Reason.FIELD_INVALID),
        ({**CARD, "amount": {"total": 1000, "currency": "yuan"}}, Reason.FIELD_INVALID),
        ({**CARD, "amount": {"total": 1000, "currency": None}}, Reason.FIELD_INVALID),
        ({**CARD, "amount": 5}, Reason.FIELD_INVALID),
        ({**CARD, "product": "gold"}, Reason.CHANNEL_NONE),
        ({**CARD, "amount": {"total": 1000, "currency": "USD"}}, Reason.CHANNEL_NONE),
        ({**CARD, "amount": {"total": 99}}, Reason.CHANNEL_NONE),
        ([], Reason.BODY_MALFORMED),
    ],
)
async def test_fields_and_channels(gate: Gate, document: object, expected: Reason) -> None:
    assert reason(await gate.pay(document)) is expected


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b'{"order_no": "1"', {}, Reason.BODY_MALFORMED),
        (b'{"order_no":"1","order_no":"2"}', {}, Reason.BODY_DUPLICATE_KEY),
        (b"\xff", {}, Reason.BODY_MALFORMED),
        (b"", {}, Reason.BODY_MALFORMED),
        (b"{}", {"content-encoding": "gzip"}, Reason.CONTENT_UNSUPPORTED),
        (b"{}", {"content-type": "text/plain"}, Reason.CONTENT_UNSUPPORTED),
        (b"{}", {"content-type": "application/x-www-form-urlencoded"}, Reason.CONTENT_UNSUPPORTED),
    ],
)
async def test_bodies(gate: Gate, body: bytes, headers: dict[str, str], expected: Reason) -> None:
    assert reason(await gate.pay(body=body, headers=headers)) is expected


@pytest.mark.parametrize(("age_s", "passes"), [(0, True), (300, True), (301, False), (-300, True), (-301, False)])
async def test_the_window(gate: Gate, age_s: int, passes: bool) -> None:
    assert reason(await gate.pay(at_s=NOW_S - age_s)) is (None if passes else Reason.TIMESTAMP_EXPIRED)


async def test_a_nonce_passes_once_and_only_genuine_ones_are_kept(gate: Gate) -> None:
    body = json.dumps(CARD).encode()
    signed = gate.teahouse.headers("POST", "/v1/payments", body, at_s=NOW_S, nonce="n")
    request = build("POST", "/v1/payments", {"content-type": "application/json", **signed}, body)
    forged = replace(request, body=b"{}")
    assert reason(await gate.check(forged)) is Reason.CREDENTIAL_INVALID
    assert reason(await gate.check(request)) is None
    assert reason(await gate.check(request)) is Reason.NONCE_REPLAYED


async def test_a_merchant_over_its_own_limit_hears_when_to_come_back(gate: Gate) -> None:
    results = [await gate.pay({**CARD, "order_no": f"A-{n}"}, merchant=gate.smallstall) for n in range(4)]
    assert [reason(result) for result in results] == [None, None, None, Reason.RATE_LIMITED]
    response = write_response(results[-1], None)
    headers = {option.header.key: option.header.value for option in response.denied_response.headers}
    assert headers["retry-after"] == "1"
    assert reason(await gate.pay()) is None, "another merchant is not limited by it"


async def test_a_repeated_notification_passes_marked(gate: Gate, demo_keys: Path) -> None:
    resource = {"mchid": "1900007291", "out_trade_no": "no-1", "trade_state": "SUCCESS"}
    headers, body = WechatPlatform.from_folder(demo_keys).notification(resource, at_s=NOW_S)
    request = build("POST", "/notify/wechat", headers, body)
    first, second = await gate.check(request), await gate.check(request)
    assert names.REPLAY_HEADER not in dict(upstream_headers(first))
    assert dict(upstream_headers(second))[names.REPLAY_HEADER] == "true"
    assert dict(upstream_headers(second))[names.MERCHANT_HEADER] == "bookshop"


async def test_refusals_speak_the_callers_protocol(gate: Gate) -> None:
    wechat = write_response(await gate.check(build("POST", "/v3/pay/transactions/native", {})), None).denied_response
    generic = write_response(await gate.check(build("POST", "/v1/payments", {})), None).denied_response
    unknown = write_response(await gate.check(build("GET", "/v3/nowhere", {})), None).denied_response
    assert (wechat.status.code, json.loads(wechat.body)["code"]) == (401, "SIGN_ERROR")
    assert (generic.status.code, json.loads(generic.body)["code"]) == (401, "credential_missing")
    assert (unknown.status.code, json.loads(unknown.body)["code"]) == (404, "RESOURCE_NOT_EXISTS")
    headers = {option.header.key: option.header.value for option in generic.headers}
    assert headers["x-pay-reason"] == "credential_missing"
    assert headers["x-pay-request-id"] == "id-1"


async def test_the_caller_never_learns_which_part_was_wrong_but_the_record_does(gate: Gate) -> None:
    stranger = HmacMerchant("nobody", gate.teahouse.secret)
    liar = HmacMerchant("teahouse-2026", b"a wrong secret of some length")
    first, second = await gate.pay(merchant=stranger), await gate.pay(merchant=liar)
    assert write_response(first, None).denied_response.body == write_response(second, None).denied_response.body
    assert "unknown" in first.steps[-1].why
    assert "mismatch" in second.steps[-1].why


async def test_metadata_always_carries_the_decision(gate: Gate) -> None:
    allowed, denied = await gate.pay(), await gate.pay([])
    assert dict(write_response(allowed, "tp").dynamic_metadata)["decision"] == "allow"
    assert dict(write_response(allowed, "tp").dynamic_metadata)["channel"] == "card"
    metadata = dict(write_response(denied, None).dynamic_metadata)
    assert (metadata["decision"], metadata["reason"], metadata["route"]) == ("deny", "body_malformed", "payments")


class Broken:
    name = "broken"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        raise ZeroDivisionError("with 6222020000000000 in its text")


async def test_a_bug_in_a_step_is_a_503_and_its_text_is_told_to_nobody(
    policy: Policy, demo_keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    decision = await Gate(policy, demo_keys, (Broken(),)).pay()
    response = write_response(decision, None)
    assert response.denied_response.status.code == 503
    assert "6222" not in repr(decision.steps) + caplog.text + response.denied_response.body
    assert any(getattr(record, "fields", {}).get("error") == "ZeroDivisionError" for record in caplog.records)


async def test_a_route_that_only_envoy_knows_is_an_outage_not_a_refusal(gate: Gate) -> None:
    decision = await gate.check(build("POST", "/v1/payments", {}, route="from-a-newer-policy"))
    assert reason(decision) is Reason.UNAVAILABLE


async def test_merchants_are_split_by_a_salted_value_that_stays(gate: Gate, demo_keys: Path) -> None:
    one, two = await gate.pay(), await gate.pay({**CARD, "order_no": "A-2"})
    wechat = WechatMerchant.from_file(
        "1900007291", "408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB", demo_keys / "wechat_merchant.pem"
    )
    target = "/v3/pay/transactions/out-trade-no/1?mchid=1900007291"
    other = await gate.check(build("GET", target, wechat.headers("GET", target, at_s=NOW_S)))
    split = [dict(upstream_headers(decision))[names.SPLIT_HEADER] for decision in (one, two, other)]
    assert split[0] == split[1] != split[2]


async def test_a_body_is_read_up_to_its_routes_limit_and_no_further(policy: Policy, demo_keys: Path) -> None:
    """Whatever the JSON reader's own default is: a route may take two megabytes, or less than Envoy passed on."""
    document = {**CARD, "memo": "m" * 1_500_000}
    route = policy.routes_by_name["payments"]
    for limit, expected in [(2_000_000, None), (1_000_000, Reason.BODY_TOO_LARGE)]:
        limited = replace(route, request_reading=Reading(limits=BodyLimits(max_bytes=limit)))
        routes = tuple(limited if one is route else one for one in policy.routes)
        named = {**policy.routes_by_name, route.name: limited}
        gate = Gate(replace(policy, routes=routes, routes_by_name=named), demo_keys)
        assert reason(await gate.pay(document)) is expected
