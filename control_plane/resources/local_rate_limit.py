"""Owns Envoy's local rate limit: the coarse bucket of the gateway, and those of routes, which take its place there.

All of them are in the route configuration, the filter is always in the listener: a new listener would leave the
connections that are open, a flood's too, with the old limit until they are drained. A bucket is full again when the
route configuration changes, be it by a weight. Envoy fills a bucket evenly, not at the end of each interval, so a
second's tokens need no smaller steps (seen in 1.40).
"""

from __future__ import annotations

import datetime

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit import v3 as local_ratelimit
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.google.protobuf import Any

from paymesh.payments.policy.compiled import LocalRateLimit, Policy, Route

NAME = "envoy.filters.http.local_ratelimit"
_SECOND = datetime.timedelta(seconds=1)


def http_filter() -> hcm.HttpFilter:
    """Without a bucket it limits nothing."""
    return hcm.HttpFilter(name=NAME, typed_config=Any.pack(local_ratelimit.LocalRateLimit(stat_prefix="gateway")))


def for_all(policy: Policy) -> dict[str, Any]:
    """The gateway's, for routes without one of their own."""
    return _packed("gateway", policy.gateway.local_rate_limit)


def per_route(route: Route) -> dict[str, Any]:
    return _packed("route", route.local_rate_limit)


def _packed(prefix: str, limit: LocalRateLimit | None) -> dict[str, Any]:
    return {} if limit is None else {NAME: Any.pack(_limit(prefix, limit))}


def _limit(prefix: str, limit: LocalRateLimit) -> local_ratelimit.LocalRateLimit:
    return local_ratelimit.LocalRateLimit(
        stat_prefix=prefix,
        token_bucket=envoy_type.TokenBucket(
            max_tokens=limit.burst, tokens_per_fill=limit.requests_per_second, fill_interval=_SECOND
        ),
        filter_enabled=_percent(100),
        filter_enforced=_percent(100 if limit.enforced else 0),
    )


def _percent(value: int) -> core.RuntimeFractionalPercent:
    hundred = envoy_type.FractionalPercentDenominatorType.HUNDRED
    return core.RuntimeFractionalPercent(
        default_value=envoy_type.FractionalPercent(numerator=value, denominator=hundred)
    )
