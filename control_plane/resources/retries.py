"""Owns a route's retry policy. Refuses nothing itself: what may not be sent twice is refused when the policy is read.

Envoy keeps the request's body while a try may have to be repeated, up to the listener's buffer limit, and repeats at
most as many at once as the cluster's breaker says (three by default): a service that is down is not flooded.
"""

from __future__ import annotations

import datetime

from envoy_data_plane.envoy.config.route import v3 as route_v3
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts import v3 as previous_hosts
from envoy_data_plane.google.protobuf import Any

from paymesh.payments.policy.forwarding import RetryPolicy

_HOST_TRIES = 3
"""How often another host is drawn, until one is found that was not tried."""


def retry_policy(policy: RetryPolicy | None) -> route_v3.RetryPolicy | None:
    """None: nothing is sent twice."""
    if policy is None:
        return None
    per_try = policy.per_try_timeout_ms
    return route_v3.RetryPolicy(
        retry_on=",".join(reason.replace("_", "-") for reason in policy.retry_on),
        num_retries=policy.attempts,
        per_try_timeout=None if per_try is None else _ms(per_try),
        retry_host_predicate=[
            route_v3.RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=Any.pack(previous_hosts.PreviousHostsPredicate()),
            )
        ],
        host_selection_retry_max_attempts=_HOST_TRIES,
        retry_back_off=route_v3.RetryPolicyRetryBackOff(
            base_interval=_ms(policy.base_interval_ms), max_interval=_ms(policy.max_interval_ms)
        ),
    )


def _ms(value: int) -> datetime.timedelta:
    return datetime.timedelta(milliseconds=value)
