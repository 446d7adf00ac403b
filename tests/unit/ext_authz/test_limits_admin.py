"""What the limits' admin API says is in force, where the command's own tests cannot bring it about."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from ext_authz.admin import limits_pb2
from ext_authz.admin.service import LimitsAdmin
from paymesh.payments.limits.in_process import InProcessLimits
from paymesh.payments.limits.latency import LatencySettings
from paymesh.payments.limits.override_store import OverrideFile
from paymesh.payments.limits.sizing import in_process_sizes
from paymesh.payments.policy.callers import TokenRate
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.rate_limits import Dimension, KeyPart, LimitKind, RateLimit

REPOSITORY = Path(__file__).resolve().parents[3]
SLOW = LatencySettings(100, window_s=0, min_samples=1)
LIMIT = RateLimit(
    "quick",
    key=(KeyPart(Dimension.SERVICE),),
    kind=LimitKind.LATENCY,
    size=(TokenRate(100, 1, 50),),
    latency=SLOW,
)


@pytest.fixture(scope="module")
def policy(demo_environ: dict[str, str]) -> Policy:
    loaded = load_policy([REPOSITORY / "examples" / "demo"], demo_environ)
    route = replace(loaded.routes_by_name["payment-query"], rate_limits=(LIMIT,))
    return replace(loaded, routes_by_name={route.name: route}, rate_limits={"quick": LIMIT})


def test_a_limit_that_has_shrunk_says_how_far(policy: Policy) -> None:
    sizes = in_process_sizes()
    admin = LimitsAdmin(InProcessLimits(), sizes, OverrideFile(None), lambda: policy)

    async def shown() -> limits_pb2.LimitInForce:
        (found,) = (await admin.Show(limits_pb2.ShowRequest(merchant="teahouse"), None)).limits
        return found

    async def both() -> tuple[limits_pb2.LimitInForce, limits_pb2.LimitInForce]:
        before = await shown()
        sizes.latencies.observe(("quick", "trade"), SLOW, 101)
        await sizes.latencies.exchange()
        return before, await shown()

    whole, shrunk = asyncio.run(both())
    assert (list(whole.key), whole.size, whole.size_from) == (["service=trade"], "100/s:50", "limit")
    assert (shrunk.size, shrunk.size_from) == ("100/s:50", "limit, 80% while slow")
    assert [(one.used, one.of) for one in (*whole.usage, *shrunk.usage)] == [(0, 50), (0, 40)]
