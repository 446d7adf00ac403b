"""Owns answering Envoy's own rate-limit filter: the policy's limits for a mesh that uses that filter already.

A descriptor's entries are the dimensions of a limit's key, by the names they have in the policy (`merchant`,
`client_ip`, `header:x-app`); every limit whose key has exactly these dimensions applies, and all of a request are asked
in one call. `limit` as a further entry names the one that is meant. Only rates and daily counts can be asked for: the
filter does not tell when a request ends, nor what it is worth.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.service.ratelimit.v3 import rls_pb2, rls_pb2_grpc
from prometheus_client import CollectorRegistry, Counter

from paymesh.payments.denial import Unavailable
from paymesh.payments.limits.demands import Demand, Exhausted, Instant, LimitStore, Quota, Tokens
from paymesh.payments.limits.refusing import limit_denial
from paymesh.payments.limits.sizing import LimitSizes
from paymesh.payments.policy.compiled import Policy, Protocol
from paymesh.payments.policy.rate_limits import Dimension, LimitKind, RateLimit
from paymesh.payments.refusals import Addressee, write_refusal
from paymesh.payments.shared_state.client import bound_waiting

DOMAIN = "paymesh"
"""What the filter has to call it, so that a typing error does not mean no limits."""
_NAME_ENTRY = "limit"
_KINDS = (LimitKind.QPS, LimitKind.TPS, LimitKind.LATENCY, LimitKind.DAILY_COUNT)
_UNITS: Mapping[int, rls_pb2.RateLimitResponse.RateLimit.Unit.ValueType] = {
    1: rls_pb2.RateLimitResponse.RateLimit.SECOND,
    60: rls_pb2.RateLimitResponse.RateLimit.MINUTE,
    3600: rls_pb2.RateLimitResponse.RateLimit.HOUR,
    86_400: rls_pb2.RateLimitResponse.RateLimit.DAY,
}


class RateLimitService(rls_pb2_grpc.RateLimitServiceServicer):  # type: ignore[misc]
    """`envoy.service.ratelimit.v3.RateLimitService`. What cannot be decided is UNAVAILABLE, what cannot be meant
    INVALID_ARGUMENT: the filter's `failure_mode_deny` says what follows."""

    def __init__(
        self, limits: LimitStore, sizes: LimitSizes, policy: Callable[[], Policy], registry: CollectorRegistry
    ) -> None:
        self._limits = limits
        self._sizes = sizes
        self._policy = policy
        self._asked = Counter(
            "paymesh_ext_authz_rate_limit_requests",
            "Requests of Envoy's rate-limit filter: allowed, refused, unmatched (no limit has such a key).",
            ["answer"],
            registry=registry,
        )

    async def ShouldRateLimit(  # noqa: N802 - the method's name in the .proto
        self,
        request: rls_pb2.RateLimitRequest,
        call: grpc.aio.ServicerContext[rls_pb2.RateLimitRequest, rls_pb2.RateLimitResponse],
    ) -> rls_pb2.RateLimitResponse:
        if request.domain != DOMAIN:
            await call.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the domain is {DOMAIN}")
        now = Instant(time.monotonic_ns(), int(time.time()))
        found: dict[tuple[object, ...], tuple[Demand, int]] = {}
        for number, descriptor in enumerate(request.descriptors):
            if descriptor.HasField("limit"):
                await call.abort(grpc.StatusCode.INVALID_ARGUMENT, "a limit of its own is the policy's alone")
            for demand in self._demands(descriptor, request.hits_addend, now.unix_s):
                bucket = demand.bucket if isinstance(demand, Tokens) else demand.key
                found.setdefault((type(demand), bucket), (demand, number))
        if not found:
            self._asked.labels(answer="unmatched").inc()
            return _answer(len(request.descriptors), None, 0)
        bound_waiting()
        try:
            taken = await self._limits.take([demand for demand, _ in found.values()], uuid.uuid4().hex, now)
        except Unavailable as error:
            await call.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            raise AssertionError("abort raises") from error
        self._asked.labels(answer="allowed" if taken.admitted else "refused").inc()
        refused = taken.refused
        number = next((number for demand, number in found.values() if refused and demand is refused.demand), 0)
        return _answer(len(request.descriptors), refused, number)

    def _demands(self, descriptor: ratelimit_pb2.RateLimitDescriptor, hits_addend: int, now_s: int) -> list[Demand]:
        entries = {entry.key: entry.value for entry in descriptor.entries}
        named = entries.pop(_NAME_ENTRY, None)
        cost = descriptor.hits_addend.value if descriptor.HasField("hits_addend") else hits_addend or 1
        policy = self._policy()
        demands: list[Demand] = []
        for limit in policy.rate_limits.values():
            if limit.kind not in _KINDS or named not in (None, limit.name) or not _is_for(limit, entries):
                continue
            values = tuple(entries[str(part)] for part in limit.key)
            merchant = policy.merchants.get(entries.get(Dimension.MERCHANT, ""))
            demands += self._sizes.demands(limit, values, merchant, now_s, timeout_ms=0, cost=cost)
        return demands


def _is_for(limit: RateLimit, entries: Mapping[str, str]) -> bool:
    return {str(part) for part in limit.key} == entries.keys()


def _answer(descriptors: int, refused: Exhausted | None, number: int) -> rls_pb2.RateLimitResponse:
    code = rls_pb2.RateLimitResponse.OK if refused is None else rls_pb2.RateLimitResponse.OVER_LIMIT
    ok = rls_pb2.RateLimitResponse.DescriptorStatus(code=rls_pb2.RateLimitResponse.OK)
    answer = rls_pb2.RateLimitResponse(overall_code=code, statuses=[ok] * descriptors)
    if refused is None:
        return answer
    status = answer.statuses[number]
    status.code = code
    status.duration_until_reset.seconds = refused.retry_after_s
    demand = refused.demand
    if isinstance(demand, Tokens) and demand.rate.per_s in _UNITS:
        limit = status.current_limit
        limit.name, limit.requests_per_unit, limit.unit = demand.limit, demand.rate.tokens, _UNITS[demand.rate.per_s]
    elif isinstance(demand, Quota):
        limit = status.current_limit
        limit.name, limit.requests_per_unit, limit.unit = demand.limit, demand.max, _UNITS[86_400]
    # The filter does not say which protocol the caller speaks, nor the request's id.
    written = write_refusal(limit_denial(refused), Addressee(Protocol.PAYMESH, "", {}))
    answer.raw_body = written.body
    answer.response_headers_to_add.extend(
        base_pb2.HeaderValue(key=name, value=value) for name, value in written.headers if value
    )
    return answer
