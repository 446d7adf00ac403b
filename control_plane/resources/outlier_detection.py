"""Owns when the answers of payments put a host out for a while. What the policy does not name is off."""

from __future__ import annotations

import datetime

from envoy_data_plane.envoy.config.cluster import v3 as cluster

from paymesh.payments.policy.upstreams import OutlierDetection


def outlier_detection(given: OutlierDetection) -> cluster.OutlierDetection:
    """Envoy counts 5xx answers and rates by default, also where a policy said nothing of them."""
    local = given.consecutive_local_origin_failure
    return cluster.OutlierDetection(
        consecutive_5xx=given.consecutive_5xx,
        enforcing_consecutive_5xx=_enforced(given.consecutive_5xx),
        consecutive_gateway_failure=given.consecutive_gateway_failure,
        enforcing_consecutive_gateway_failure=_enforced(given.consecutive_gateway_failure),
        split_external_local_origin_errors=local is not None,
        consecutive_local_origin_failure=local,
        enforcing_consecutive_local_origin_failure=_enforced(local),
        enforcing_success_rate=0,
        enforcing_local_origin_success_rate=0,
        interval=datetime.timedelta(milliseconds=given.interval_ms),
        base_ejection_time=datetime.timedelta(milliseconds=given.base_ejection_time_ms),
        max_ejection_time=datetime.timedelta(milliseconds=given.max_ejection_time_ms),
        max_ejection_percent=given.max_ejection_percent,
    )


def _enforced(count: int | None) -> int:
    return 0 if count is None else 100
