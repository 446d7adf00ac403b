"""One match, several routes: which is meant, and what may not share a match."""

from __future__ import annotations

from pathlib import Path

import pytest

from paymesh.payments.policy.compiled import Operation, Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.policy.variants import choose

ROUTE = """
  - name: {name}
    match: {{path: {path}, methods: [POST]{parameters}}}
    operation: query
    schemes: [{scheme}]
    service: trade
"""
SERVICES = "services: [{name: trade, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: 1}]}]}]\n"


def route(name: str, parameters: str = "", scheme: str = "alipay_v2", path: str = "/gateway.do") -> str:
    return ROUTE.format(
        name=name, scheme=scheme, path=path, parameters=parameters and f", signed_parameters: {parameters}"
    )


def load(folder: Path, *routes: str) -> Policy:
    (folder / "policy.yaml").write_text(SERVICES + "routes:" + "".join(routes))
    return load_policy([folder], {})


def test_an_entry_stands_for_its_variants(tmp_path: Path) -> None:
    policy = load(
        tmp_path,
        route("one", "{method: a}"),
        route("two", "{method: b}"),
        route("special", "{method: b, product: x}"),
        route("other", path="/other"),
    )
    entry = next(found for found in policy.routes if found.variants)
    assert (entry.name, entry.operation, entry.service) == ("POST /gateway.do", Operation.OTHER, None)
    assert [variant.name for variant in entry.variants] == ["one", "two", "special"]
    assert len(policy.routes) == 2
    assert policy.routes_by_name[entry.name] is entry
    assert policy.routes_by_name["two"].name == "two"
    for parameters, expected in (
        ({"method": "a"}, "one"),
        ({"method": "b"}, "two"),
        ({"method": "b", "product": "x"}, "special"),
        ({"method": "c"}, None),
        ({}, None),
    ):
        found = choose(entry, parameters)
        assert (None if found is None else found.name) == expected


@pytest.mark.parametrize(
    ("routes", "problem"),
    [
        ((route("one", "{method: a}"), route("two", "{method: a}")), "route one has the same match and parameters"),
        ((route("one", "{method: a}"), route("two")), "other routes with this match have signed_parameters"),
        (
            (route("one", "{method: a}"), route("two", "{method: b}", scheme="unionpay")),
            "routes with one match have the same schemes",
        ),
        ((route("one", "{method: a}", scheme="hmac"),), "only Alipay v2 and UnionPay requests have signed parameters"),
    ],
)
def test_what_may_not_share_a_match(tmp_path: Path, routes: tuple[str, ...], problem: str) -> None:
    with pytest.raises(PolicyErrors) as refused:
        load(tmp_path, *routes)
    assert any(problem in str(found) for found in refused.value.problems), refused.value
