"""From documents to the compiled policy: order of routes, references, interpolation, joined files."""

from __future__ import annotations

from pathlib import Path

import pytest

from paymesh.payments.policy.callers import KeyKind, KeyRef
from paymesh.payments.policy.compile_credentials import normalize_serial
from paymesh.payments.policy.compiled import TOTAL_WEIGHT, PathKind, Protocol
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.problems import PolicyErrors

REPOSITORY = Path(__file__).resolve().parents[4]


def test_the_demo_policy_compiles(demo_environ: dict[str, str]) -> None:
    policy = load_policy([REPOSITORY / "examples" / "demo"], demo_environ)
    kinds = [route.match.path_kind for route in policy.routes]
    assert kinds == sorted(kinds), "more specific routes come first"
    payments = policy.routes_by_name["payments"]
    assert [channel.name for channel in payments.channels] == ["wechat", "alipay", "card", "offline"]
    assert payments.protocol is Protocol.PAYMESH
    assert policy.routes_by_name["wechat-native"].protocol is Protocol.WECHAT_V3
    assert [version.initial_weight for version in policy.services["trade"].versions] == [9000, 1000]
    assert all(sum(v.initial_weight for v in s.versions) == TOTAL_WEIGHT for s in policy.services.values())
    ref = KeyRef(KeyKind.WECHAT, "1900007291/408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB")
    (key,) = policy.keys[ref]
    assert key.merchant is policy.merchants["bookshop"]


def test_endpoints_and_files_take_environment_variables_with_defaults(demo_environ: dict[str, str]) -> None:
    given = load_policy([REPOSITORY / "examples" / "demo"], {**demo_environ, "PAYMESH_CARD_PORT": "4711"})
    assert given.services["card"].versions[0].endpoints[0].port == 4711
    assert given.services["offline"].versions[0].endpoints[0].port == 9214


def test_specificity_orders_routes_and_equal_ones_keep_their_order(tmp_path: Path) -> None:
    (tmp_path / "services.yaml").write_text(
        "services: [{name: s, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: 1}]}]}]\n"
    )
    routes = [
        ("any", "{prefix: /}"),
        ("deep", "{prefix: /a/b}"),
        ("template", '{path_template: "/a/{x}"}'),
        ("exact", "{path: /a/b}"),
        ("get", "{path: /a/b, methods: [GET]}"),
        ("tagged", "{path: /a/b, methods: [GET], headers: [{name: tag}]}"),
        ("third", "{path: /a/b, query_parameters: [{name: r}]}"),
        ("second", "{path: /a/b, query_parameters: [{name: q}]}"),
    ]
    lines = [f"  - {{name: {name}, operation: other, service: s, match: {match}}}" for name, match in routes]
    (tmp_path / "routes.yaml").write_text("routes:\n" + "\n".join(lines) + "\n")
    policy = load_policy([tmp_path], {})
    assert [route.name for route in policy.routes] == [
        "tagged",
        "get",
        "third",
        "second",
        "exact",
        *("template", "deep", "any"),
    ]
    assert policy.routes[5].match.path_kind is PathKind.TEMPLATE
    assert policy.routes[5].match.path_regex == "/a/[^/]+"


def test_serials_compare_in_either_case_and_without_leading_zeros() -> None:
    assert normalize_serial("00ab12") == normalize_serial("AB12") == "AB12"
    assert normalize_serial("PUB_KEY_ID_00ab") == "PUB_KEY_ID_00ab"
    assert normalize_serial("000") == "0"


def test_what_is_no_list_is_given_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("merchant_table: {url: {env: TABLE}}\n")
    with pytest.raises(PolicyErrors) as refused:
        load_policy([tmp_path], {"TABLE": "sqlite:///merchants.sqlite"})
    (problem,) = refused.value.problems
    assert str(problem).startswith(f"{tmp_path}/b.yaml:1: merchant_table: is given in another file already")
