"""Owns Envoy's adaptive concurrency: fewer requests at work together while the services are slow.

It is a filter of the listener: Envoy 1.40 has it for no cluster and knows no settings of it for a route. Its refusal is
a 503 without a response flag, which `local_replies.py` words as "not processed".
"""

from __future__ import annotations

import datetime

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.filters.http.adaptive_concurrency import v3 as adaptive_concurrency
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.google.protobuf import Any

from paymesh.payments.policy.compiled import AdaptiveConcurrency, Policy


def http_filters(policy: Policy) -> list[hcm.HttpFilter]:
    wanted = policy.gateway.adaptive_concurrency
    if wanted is None:
        return []
    config = adaptive_concurrency.AdaptiveConcurrency(
        gradient_controller_config=adaptive_concurrency.GradientControllerConfig(
            sample_aggregate_percentile=envoy_type.Percent(value=wanted.percentile),
            concurrency_limit_params=adaptive_concurrency.GradientControllerConfigConcurrencyLimitCalculationParams(
                max_concurrency_limit=wanted.max_concurrency, concurrency_update_interval=_ms(wanted.update_interval_ms)
            ),
            min_rtt_calc_params=_min_rtt(wanted),
        ),
        # The runtime key is demanded by Envoy's validation; nothing sets it.
        enabled=core.RuntimeFeatureFlag(default_value=True, runtime_key="paymesh.unused"),
    )
    return [hcm.HttpFilter(name="envoy.filters.http.adaptive_concurrency", typed_config=Any.pack(config))]


def _min_rtt(
    wanted: AdaptiveConcurrency,
) -> adaptive_concurrency.GradientControllerConfigMinimumRttCalculationParams:
    return adaptive_concurrency.GradientControllerConfigMinimumRttCalculationParams(
        fixed_value=None if wanted.fixed_min_rtt_ms is None else _ms(wanted.fixed_min_rtt_ms),
        interval=None if wanted.measure_every_ms is None else _ms(wanted.measure_every_ms),
        request_count=wanted.measure_requests,
        min_concurrency=wanted.min_concurrency,
        jitter=envoy_type.Percent(value=wanted.jitter_percent),
        buffer=envoy_type.Percent(value=wanted.buffer_percent),
    )


def _ms(value: int) -> datetime.timedelta:
    return datetime.timedelta(milliseconds=value)
