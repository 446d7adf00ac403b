"""What Envoy is told, reviewed as text: small policies beside the configuration that comes out of them.

PAYMESH_UPDATE_GOLDEN=1 writes the golden files anew and deletes those without a policy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

TESTDATA = Path(__file__).parent / "testdata"
GOLDEN = ".golden.yaml"
POLICIES = sorted(file for file in TESTDATA.glob("*.yaml") if not file.name.endswith(GOLDEN))
UPDATE = os.environ.get("PAYMESH_UPDATE_GOLDEN") == "1"

each_policy = pytest.mark.parametrize("file", POLICIES, ids=lambda file: file.stem)


@each_policy
def test_the_configuration_is_the_reviewed_one(file: Path, build: Any) -> None:
    built = yaml.safe_dump(build(file).resources, sort_keys=False, width=120, allow_unicode=True)
    golden = TESTDATA / f"{file.stem}{GOLDEN}"
    if UPDATE:
        golden.write_text(built, encoding="utf-8")
    assert golden.exists(), f"{golden.name} is missing: PAYMESH_UPDATE_GOLDEN=1 writes it"
    assert built == golden.read_text(encoding="utf-8"), f"{golden.name} is stale: PAYMESH_UPDATE_GOLDEN=1, then review"


def test_every_golden_file_has_a_policy() -> None:
    expected = {f"{file.stem}{GOLDEN}" for file in POLICIES}
    stale = [file for file in TESTDATA.glob(f"*{GOLDEN}") if file.name not in expected]
    if UPDATE:
        for file in stale:
            file.unlink()
        stale = []
    assert stale == []


@each_policy
def test_a_payment_without_a_channel_reaches_no_service(file: Path, build: Any) -> None:
    built = build(file)
    routes = _routes(built)
    for route in built.policy.routes:
        mine = [item for item in routes if item["name"].split("/")[0] == route.name]
        if not route.by_channel:
            assert [item["name"] for item in mine] == [route.name]
            continue
        *channels, last = mine
        assert [item["name"] for item in channels] == [f"{route.name}/{channel.name}" for channel in route.channels]
        for item, channel in zip(channels, route.channels, strict=True):
            wanted = {"name": "x-pay-channel", "string_match": {"exact": channel.name}}
            assert wanted in item["match"]["headers"]
        assert last["direct_response"] == {"status": 503}
        assert "route" not in last
        assert "x-pay-channel" not in str(last["match"])


@each_policy
def test_paths_of_no_route_are_404_and_cost_no_decision(file: Path, build: Any) -> None:
    last = _routes(build(file))[-1]
    assert last["match"] == {"prefix": "/"}
    assert last["direct_response"] == {"status": 404}
    assert last["typed_per_filter_config"]["envoy.filters.http.ext_authz"]["disabled"] is True


@each_policy
def test_nothing_is_sent_twice_that_a_service_may_have_processed(file: Path, build: Any) -> None:
    built = build(file)
    keys = set(_keys(built.resources))
    assert keys.isdisjoint({"hedge_policy", "retry_options"})
    assert "retry_policy" not in built.resources["routes"]["paymesh"]["virtual_hosts"][0]
    for item in _routes(built):
        route = built.policy.routes_by_name.get(item["name"].split("/")[0])
        if "request_mirror_policies" in item.get("route", {}):
            assert route.operation in ("query", "other")
            assert route.forwarding.mirrors
        repeated = item.get("route", {}).get("retry_policy", {}).get("retry_on", "")
        if route is None or route.forwarding.retry is None:
            assert not repeated
        elif repeated and route.operation not in ("query", "other"):
            assert set(repeated.split(",")) <= {"connect-failure", "reset-before-request", "refused-stream"}


@each_policy
def test_traffic_is_split_by_merchant_in_the_order_of_the_policy(file: Path, build: Any) -> None:
    built = build(file)
    versions = {service.name: [v.name for v in service.versions] for service in built.policy.services.values()}
    for item in _routes(built):
        if "route" not in item:
            continue
        split = item["route"]["weighted_clusters"]
        assert sum(cluster["weight"] for cluster in split["clusters"]) == 10_000
        assert split["use_hash_policy"] is True
        assert item["route"]["hash_policy"] == [{"header": {"header_name": "x-pay-split"}}]
        names = [cluster["name"].split("|") for cluster in split["clusters"]]
        assert [version for _, version, *_ in names] == versions[names[0][0]]


@each_policy
def test_whatever_is_referred_to_is_there(file: Path, build: Any) -> None:
    built = build(file).resources
    referred = {
        cluster["name"]
        for item in built["routes"]["paymesh"]["virtual_hosts"][0]["routes"]
        for cluster in item.get("route", {}).get("weighted_clusters", {}).get("clusters", [])
    }
    assert referred | {"paymesh_ext_authz", "paymesh_ext_proc"} <= built["clusters"].keys()
    discovered = {name for name, cluster in built["clusters"].items() if cluster.get("type") == "EDS"}
    assert discovered == built["endpoints"].keys()


def test_filters_are_on_only_where_they_are_needed(build: Any) -> None:
    built = build(TESTDATA / "demo.yaml")
    sanitized, observed = set(), set()
    for item in _routes(built):
        filters = item["typed_per_filter_config"]
        name = item["name"].split("/")[0]
        sanitized |= {name} if "paymesh.ext_proc.sanitize" in filters else set()
        observed |= {name} if "paymesh.ext_proc.observe" in filters else set()
    assert sanitized == {"payments"}
    assert observed == {"wechat-native", "payments", "payment-query"}


def _routes(built: Any) -> list[dict[str, Any]]:
    return built.resources["routes"]["paymesh"]["virtual_hosts"][0]["routes"]


def _keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)
