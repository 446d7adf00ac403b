"""A release judged by a real Prometheus that scrapes what the control plane exports.

Prometheus is Debian's package (`apt-get install prometheus`); PAYMESH_PROMETHEUS names its binary elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, start_http_server

from control_plane.releases.asking import Subject, ask_prometheus
from control_plane.releases.observed import Observed
from paymesh.payments import internal_names as names
from paymesh.payments.policy.load import load_policy
from paymesh.payments.releases.analysis import Finding, Verdict
from paymesh.payments.releases.checks import PrometheusCheck
from paymesh.server.access_log import Finished
from paymesh.server.http_fetch import AiohttpFetch

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio]
PATIENCE_S = 40
POLICY = """
services:
  - name: trade
    versions:
      - {name: v1, weight: 100, endpoints: [{address: 10.0.0.1, port: 1}]}
      - {name: v2, weight: 0, endpoints: [{address: 10.0.0.2, port: 1}]}
"""
OF_TARGET = 'service="{{service}}",version="{{target}}"'
FAILED_SHARE = (
    f'sum(rate(paymesh_version_payments_total{{{OF_TARGET},says="fails"}}[{{{{window}}}}]))'
    f" / sum(rate(paymesh_version_payments_total{{{OF_TARGET}}}[{{{{window}}}}]))"
)
SUBJECT = Subject("trade-v2", "trade", "v1", "v2", "holding", 1, 1_000, window_s=6)


def binary() -> str:
    found = os.environ.get("PAYMESH_PROMETHEUS") or shutil.which("prometheus")
    if found is None:
        pytest.skip("NOT TESTED: no Prometheus here (Debian's package prometheus, or PAYMESH_PROMETHEUS=its binary)")
    return found


@dataclass
class Site:
    observed: Observed
    fetch: AiohttpFetch
    url: str

    async def pay(self, count: int, status: int = 200) -> None:
        said = {names.META_DECISION: names.DECISION_ALLOW, names.META_OPERATION: "pay"}
        outcome = "succeeded" if status == 200 else ""
        for _ in range(count):
            one = Finished("id", status, frozenset(), 0.01, 0.01, "trade|v2", True, said, outcome)
            await self.observed.finished(one)

    async def ask(self, query: str) -> Finding:
        check = PrometheusCheck("failed share", self.url, query, None, "0.05")
        return await ask_prometheus(self.fetch, check, SUBJECT)

    async def until(self, verdict: Verdict, status: int) -> Finding:
        """Ten payments a second that end so, until Prometheus has seen them."""
        found = await self.ask(FAILED_SHARE)
        async with asyncio.timeout(PATIENCE_S):
            while found.verdict is not verdict:
                await self.pay(10, status)
                await asyncio.sleep(1)
                found = await self.ask(FAILED_SHARE)
        return found


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    command = binary()
    (tmp_path / "policy.yaml").write_text(POLICY)
    policy = load_policy([tmp_path / "policy.yaml"], {})
    observed = Observed(lambda: policy, lambda: int(time.time()))
    registry = CollectorRegistry()
    registry.register(observed)
    exporter, serving = start_http_server(0, "127.0.0.1", registry)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    targets = f"{{targets: ['127.0.0.1:{exporter.server_port}']}}"
    (tmp_path / "prometheus.yml").write_text(
        f"global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: paymesh, static_configs: [{targets}]}}]\n"
    )
    flags = ("--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", f"--web.listen-address=127.0.0.1:{port}")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([command, *flags], cwd=tmp_path, stdout=log, stderr=log)
    fetch = AiohttpFetch()
    try:
        yield Site(observed, fetch, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)
        await fetch.aclose()
        exporter.shutdown()
        exporter.server_close()
        serving.join()


async def test_a_real_prometheus_says_pass_fail_or_nothing(site: Site) -> None:
    passed = await site.until(Verdict.PASS, 200)
    assert passed.why == "0 is at most 0.05"
    failed = await site.until(Verdict.FAIL, 500)
    assert failed.why.endswith(" is above 0.05")
    unknown = await site.ask('paymesh_version_payments_total{service="nobody"}')
    assert (unknown.verdict, unknown.why) == (Verdict.INCONCLUSIVE, "the query gives 0 numbers, not one")
    both = await site.ask("paymesh_version_payments_total")
    assert (both.verdict, both.why) == (Verdict.INCONCLUSIVE, "the query gives 2 numbers, not one")
    wrong = await site.ask("sum(")
    assert wrong.verdict is Verdict.INCONCLUSIVE
