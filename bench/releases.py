"""Owns what releases cost the control plane: counting each exchange, judging, previewing, writing a change of state.

    python -m bench.releases

Every figure is a median of this machine, whose cores are printed. The policy has one service of two versions.
"""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from envoy.data.accesslog.v3 import accesslog_pb2

from control_plane.releases.observed import Observed
from control_plane.releases.store import Release, ReleaseStore
from control_plane.releases.traffic_analyst import TrafficAnalyst
from control_plane.releases.version_counts import KEPT_S
from control_plane.xds.load_reports import LoadReports
from paymesh.payments import internal_names as names
from paymesh.payments.policy.load import load_policy
from paymesh.payments.releases.analysis import LatencyRule, RateRule
from paymesh.payments.releases.checks import Analysis, Counting, LatencyCheck, RateCheck
from paymesh.payments.releases.exposure import Recent
from paymesh.payments.releases.plan import Hold, Kind, Plan, SetWeight
from paymesh.payments.releases.preview import preview
from paymesh.payments.releases.state import Phase, State
from paymesh.server.access_log import read_entry
from paymesh.server.http_fetch import AiohttpFetch

POLICY = """
services:
  - name: trade
    versions:
      - {name: v1, weight: 100, endpoints: [{address: 10.0.0.1, port: 1}]}
      - {name: v2, weight: 0, endpoints: [{address: 10.0.0.2, port: 1}]}
"""
MERCHANTS = 20_000
CHECKS = (
    RateCheck(RateRule("payments", 0.01), Counting.PAYMENTS),
    RateCheck(RateRule("refused", 0.01), Counting.OUTCOME, "pay", "refused"),
    LatencyCheck(LatencyRule("latency", 0.99, 1.5)),
)
PLAN = Plan("bench", "trade", Kind.CANARY, "v1", "v2", (SetWeight(100), Hold(60)), Analysis(CHECKS))


def entry(version: str, merchant: int) -> accesslog_pb2.HTTPAccessLogEntry:
    found = accesslog_pb2.HTTPAccessLogEntry()
    common = found.common_properties
    common.upstream_cluster = f"trade|{version}"
    common.upstream_remote_address.socket_address.address = "10.0.0.1"
    common.time_to_first_upstream_rx_byte.nanos = 20_000_000
    said = common.metadata.filter_metadata[names.AUTHZ_FILTER]
    said.update(
        {
            names.META_DECISION: names.DECISION_ALLOW,
            names.META_OPERATION: "pay",
            names.META_MERCHANT: f"merchant-{merchant}",
            names.META_MONEY: "880 CNY",
        }
    )
    common.metadata.filter_metadata[names.OUTCOME_NAMESPACE].update({names.META_OUTCOME: "succeeded"})
    found.response.response_code.value = 200
    return found


def median_us(what: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        what()
        taken.append((time.perf_counter() - began) * 1e6)
    return statistics.median(taken)


async def main() -> None:
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "policy.yaml"
        file.write_text(POLICY)
        policy = load_policy([file], {})
        now_s = 1_800_000_000
        observed = Observed(lambda: policy, lambda: now_s)
        entries = [entry("v1" if number % 10 else "v2", number % MERCHANTS) for number in range(20_000)]
        began = time.perf_counter()
        for one in entries:
            await observed.finished(read_entry(one))
        print(f"an exchange read and counted        {(time.perf_counter() - began) / len(entries) * 1e6:8.1f} us")
        for _ in range(KEPT_S):
            now_s += 1
            for one in entries[:20]:
                await observed.finished(read_entry(one))
        fetch = AiohttpFetch()
        analyst = TrafficAnalyst(observed, LoadReports(), fetch, lambda: now_s)
        state = State(phase=Phase.HOLDING, step=1, share=1000, since_s=now_s - KEPT_S)
        taken = []
        for _ in range(50):
            began = time.perf_counter()
            await analyst.look(PLAN, state)
            taken.append((time.perf_counter() - began) * 1e3)
        print(f"three checks over 15 minutes        {statistics.median(taken):8.1f} ms")
        recent = {f"merchant-{number}": Recent(number, {"CNY": number}) for number in range(MERCHANTS)}
        now, then = {"v1": 9_000, "v2": 1_000}, {"v1": 5_000, "v2": 5_000}
        cost = median_us(lambda: preview(recent, "salt", now, then), 10)
        print(f"a preview of {MERCHANTS} merchants         {cost / 1e3:8.1f} ms")
        store = ReleaseStore(Path(folder) / "releases.sqlite")
        store.begin(Release(PLAN, State()), "bench", "begin", 0)
        last = State()

        def change() -> None:
            nonlocal last
            after = replace(last, seq=last.seq + 1)
            store.change(PLAN.name, last, after, "bench", "change", 0)
            last = after

        print(f"a change of state, durable on disk  {median_us(change, 200) / 1e3:8.2f} ms")
        store.close()
        await fetch.aclose()


if __name__ == "__main__":
    asyncio.run(main())
