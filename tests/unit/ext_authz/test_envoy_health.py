"""What Envoy's health-check event log says, as Envoy writes it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ext_authz.envoy_health import EnvoyHealth
from paymesh.payments.policy.compiled import Endpoint, Policy, Service, ServiceVersion
from paymesh.payments.policy.upstreams import Upstream

ONE, TWO = Endpoint("10.0.0.1", 80), Endpoint("10.0.0.2", 80)
BANK = Service("bank", (ServiceVersion("v1", (ONE, TWO), 9000), ServiceVersion("v2", (ONE,), 1000)), Upstream(1000))
FOUND = Service("found", (ServiceVersion("v1", (), 10_000),), Upstream(1000))


def event(kind: str, host: Endpoint = ONE, cluster: str = "bank|v1", **told: object) -> str:
    address = {"protocol": "TCP", "address": host.address, "port_value": host.port}
    document = {
        "health_checker_type": "HTTP",
        "host": {"socket_address": address},
        "cluster_name": cluster,
        kind: told,
        "timestamp": "2026-11-23T20:00:00Z",
    }
    return json.dumps(document) + "\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "health.log"


@pytest.fixture
def health(file: Path) -> EnvoyHealth:
    policy = cast(Policy, SimpleNamespace(services={"bank": BANK, "found": FOUND}))
    return EnvoyHealth(file, lambda: policy)


def write(file: Path, health: EnvoyHealth, *lines: str, mode: str = "a") -> bool:
    with file.open(mode) as opened:
        opened.writelines(lines)
    health.read()
    return health.is_down("bank")


ALL = [event("eject_unhealthy_event", host, cluster) for host, cluster in
       ((ONE, "bank|v1"), (TWO, "bank|v1"), (ONE, "bank|v2"))]  # fmt: skip


def test_without_a_file_nothing_is_down(health: EnvoyHealth) -> None:
    health.read()
    assert not health.is_down("bank")


def test_a_service_is_down_when_no_version_has_a_healthy_host(file: Path, health: EnvoyHealth) -> None:
    assert [write(file, health, line) for line in ALL] == [False, False, True]
    assert write(file, health, event("add_healthy_event", TWO)) is False


def test_a_host_that_nobody_named_counts_as_healthy(file: Path, health: EnvoyHealth) -> None:
    assert write(file, health, ALL[0], ALL[2]) is False


def test_a_host_that_never_answered_is_unhealthy(file: Path, health: EnvoyHealth) -> None:
    first: dict[str, Any] = {"failure_type": "NETWORK", "first_check": True}
    lines = [event("health_check_failure_event", host, cluster, **first) for host, cluster in
             ((ONE, "bank|v1"), (TWO, "bank|v1"), (ONE, "bank|v2"))]  # fmt: skip
    assert write(file, health, *lines)
    # A later failure is no transition: the threshold decides, and Envoy says when.
    assert write(file, health, event("add_healthy_event"), event("health_check_failure_event")) is False


def test_hosts_that_envoy_found_itself_are_all_there_are(file: Path, health: EnvoyHealth) -> None:
    write(file, health, event("eject_unhealthy_event", ONE, "found|v1"))
    assert health.is_down("found")
    write(file, health, event("add_healthy_event", TWO, "found|v1"))
    assert not health.is_down("found")


def test_half_a_line_is_read_when_it_is_whole(file: Path, health: EnvoyHealth) -> None:
    assert write(file, health, *ALL[:2], ALL[2][:40]) is False
    assert write(file, health, ALL[2][40:]) is True


@pytest.mark.parametrize("line", ["\n", "no json\n", "[]\n", '{"host": {"pipe": {}}}\n', "1\n", "\xff\n"])
def test_what_is_no_event_is_passed_over(file: Path, health: EnvoyHealth, line: str) -> None:
    assert write(file, health, line, *ALL) is True


def test_another_file_begins_anew(file: Path, health: EnvoyHealth) -> None:
    assert write(file, health, *ALL)
    assert write(file, health, mode="w") is False
