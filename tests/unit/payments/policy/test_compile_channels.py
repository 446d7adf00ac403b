"""Channels, fees and ways of choosing as they are written, and what they compile to."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from paymesh.payments.fees import CardType, FeeSchedule, Part, Promotion, RefundRule, Terms, Tier
from paymesh.payments.policy.channel_rules import (
    ByCost,
    ByDefault,
    ByPriority,
    ByRules,
    BySuccess,
    ByWeight,
    CardLimits,
    Eliminate,
    Elimination,
    OpeningHours,
    Rule,
    Watch,
    When,
)
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy

POLICY = """
services:
  - {name: s, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: 1}]}]}
merchants:
  - id: shop
    credentials: [{scheme: hmac, key_id: k, secret: {env: SECRET}}]
    channels: [a, b]
    fees: {a: [{id: shop-a, rate: 0.2%}]}
channels:
  - name: a
    service: s
    currencies: [CNY, USD]
    fees:
      - id: a-cny
        rate: 0.6%
        fixed: 5
        minimum: 10
        cap: 1300
        tiers: [{from_amount: 100000, rate: 0.55%}]
        cards: {debit: {rate: 0.35%, cap: 1300}}
        promotions:
          - {name: autumn, rate: 0.38%, valid_from: 2026-11-01, valid_until: 2026-11-30}
          - {name: hour, rate: 0%, valid_from: "2026-11-01T00:00:00Z", valid_until: "2026-11-01T00:59:59Z", cards: [credit]}
        refund: kept
      - {id: a-usd, rate: 2.900001%, currency: USD, fixed: 30, utc_offset: "-05:30"}
    cards: {types: [debit, credit], bins: ["62", "81"]}
    hours:
      utc_offset: "+05:30"
      open:
        - {days: [mon, fri], opens: "09:00", closes: "21:30"}
        - {days: [sat], opens: "00:00", closes: "24:00"}
        - {days: [sun], opens: "22:00", closes: "02:00"}
  - {name: b, service: s, fees: [{id: b-cny, rate: 100%}]}
routes:
  - name: pay
    match: {path: /pay, methods: [POST]}
    operation: pay
    schemes: [hmac]
    fields: {order_no: /no, amount: /amount, card_no: /card/no, card_type: /card/type}
    channels: [b, a]
    channel_selection:
      - {strategy: eliminate, failures: 5, pause: 10s, probe_share: 2}
      - strategy: rules
        rules:
          - {when: {min_amount: 100, cards: {bins: ["6222"]}, merchants: [shop]}, only: [a]}
          - {prefer: [b]}
      - {strategy: success_rate, window: 5m, min_samples: 50, band: "1.5", explore: 3}
      - {strategy: priority}
      - {strategy: default, channel: b}
  - name: weighted
    match: {path: /weighted, methods: [POST]}
    operation: pay
    schemes: [hmac]
    fields: {order_no: /no, amount: /amount}
    channels: [b]
    channel_selection: [{strategy: weighted, weights: {b: 100}}]
  - name: plain
    match: {path: /plain, methods: [POST]}
    operation: pay
    schemes: [hmac]
    fields: {order_no: /no, amount: /amount}
    channels: [b]
"""  # noqa: E501
DAY = 86_400


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    file: Path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    file.write_text(POLICY)
    return load_policy([file], {"SECRET": "0123456789abcdef0123456789abcdef"})


def at(text: str) -> int:
    return int(datetime.datetime.fromisoformat(text).timestamp())


def test_fees(policy: Policy) -> None:
    assert policy.channels["a"].fees == {
        "CNY": FeeSchedule(
            "a-cny",
            Part("standard", Terms(Decimal("0.006"), 5, 10, 1300)),
            (Tier(100_000, Part("from 100000", Terms(Decimal("0.0055")))),),
            {CardType.DEBIT: Part("debit", Terms(Decimal("0.0035"), cap=1300))},
            (
                Promotion(
                    at("2026-11-01T00:00:00+08:00"),
                    at("2026-12-01T00:00:00+08:00"),
                    Part("promotion autumn", Terms(Decimal("0.0038"))),
                ),
                Promotion(
                    at("2026-11-01T00:00:00+00:00"),
                    at("2026-11-01T01:00:00+00:00"),
                    Part("promotion hour", Terms(Decimal(0))),
                    frozenset({CardType.CREDIT}),
                ),
            ),
            RefundRule.KEPT,
        ),
        "USD": FeeSchedule("a-usd", Part("standard", Terms(Decimal("0.02900001"), 30))),
    }
    assert policy.channels["b"].fees["CNY"].standard.terms.rate == 1


def test_a_merchants_contract_and_its_own_fees(policy: Policy) -> None:
    shop = policy.merchants["shop"]
    assert shop.channels == {"a", "b"}
    assert shop.fees["a"]["CNY"].standard.terms.rate == Decimal("0.002")


def test_cards_and_hours(policy: Policy) -> None:
    channel = policy.channels["a"]
    assert channel.cards == CardLimits(frozenset(CardType), ("62", "81"))
    assert channel.hours == OpeningHours(
        19_800,
        (
            (0, 7_200),
            (32_400, 77_400),
            (4 * DAY + 32_400, 4 * DAY + 77_400),
            (5 * DAY, 6 * DAY),
            (6 * DAY + 79_200, 7 * DAY),
        ),
    )
    assert policy.channels["b"].hours is None


def test_strategies(policy: Policy) -> None:
    out, success = Watch(60, 20, Elimination(5, None, 10, 10)), Watch(300, 50)
    about = When(min_amount=100, merchants=frozenset({"shop"}), cards=CardLimits(bins=("6222",)))
    route = policy.routes_by_name["pay"]
    assert route.channel_selection == (
        Eliminate(out, 200, try_when_all_out=True),
        ByRules((Rule(about, frozenset({"a"}), only=True), Rule(When(), frozenset({"b"}), only=False))),
        BySuccess(success, 150, 300),
        ByPriority(),
        ByDefault("b"),
    )
    assert (route.fields.card_no, route.fields.card_type) == (("card", "no"), ("card", "type"))
    assert policy.routes_by_name["weighted"].channel_selection == (ByWeight({"b": 10_000}),)
    assert policy.routes_by_name["plain"].channel_selection == ()
    assert policy.channel_watches == {"a": (out, success), "b": (out, success)}, "whatever route a payment came by"


def test_lowest_cost_needs_every_fee(policy: Policy, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY.replace("{strategy: weighted, weights: {b: 100}}", "{strategy: lowest_cost}"))
    found = load_policy([file], {"SECRET": "0123456789abcdef0123456789abcdef"})
    assert found.routes_by_name["weighted"].channel_selection == (ByCost(),)
