"""Owns Envoy's own answers (404, 413, 429, 503, 504 ...): in the caller's protocol, and honest about a payment.

What ext_authz refused was already written in the caller's protocol and passes as it is. Once the upstream may have
seen a payment, nobody may say that it failed: the answer is "unknown, query the order" (DESIGN 5.2).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route_v3
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type.matcher import v3 as matcher

from control_plane.resources.matching import path_and_query_regex
from paymesh.payments import internal_names as names
from paymesh.payments.policy.compiled import Policy, Protocol, Route

MAYBE_SEEN_FLAGS = ("UT", "UC", "UR", "LR", "UPE", "UMSDR", "SI", "DT")
"""Response flags under which the upstream may have read the request: time-outs, resets and broken answers."""

_UNDECIDED_FLAG = "UAEX"
"""ext_authz gave no usable answer (503), or one that Envoy refuses (500): nothing was sent."""


@dataclass(frozen=True, slots=True)
class _Words:
    reason: str
    wechat_code: str
    message: str
    retry_after: bool = False


_BY_STATUS = {
    400: _Words("request_malformed", "PARAM_ERROR", "the request is not acceptable HTTP, or its path not canonical"),
    404: _Words("route_unknown", "RESOURCE_NOT_EXISTS", "no such endpoint"),
    408: _Words("request_malformed", "PARAM_ERROR", "the request did not arrive in time"),
    413: _Words("body_too_large", "PARAM_ERROR", "the body is too large"),
    429: _Words("rate_limited", "FREQUENCY_LIMITED", "too many requests; retry later", retry_after=True),
    431: _Words("request_malformed", "PARAM_ERROR", "the headers are too large"),
}
_CLIENT_ERROR = _Words("request_malformed", "PARAM_ERROR", "the request is not acceptable here")
_OTHERWISE = _Words("unavailable", "SYSTEM_ERROR", "not processed: the gateway cannot serve this now; retry later")
_UNKNOWN = _Words("outcome_unknown", "SYSTEM_ERROR", "the outcome is unknown: query the order before trying again")

REASONS = frozenset(words.reason for words in (*_BY_STATUS.values(), _CLIENT_ERROR, _OTHERWISE, _UNKNOWN))
"""Every `x-pay-reason` that Envoy's own answers have."""


def local_replies(policy: Policy) -> hcm.LocalReplyConfig:
    """First match wins."""
    mappers = [_refused_by_ext_authz()]
    for protocol in (Protocol.WECHAT_V3, Protocol.PAYMESH):
        spoken = [] if protocol is Protocol.PAYMESH else [_path(_paths(policy.routes, protocol))]
        changing = [route for route in policy.routes if route.protocol is protocol and _may_move_money(route)]
        if changing:
            mappers += _honest([*spoken, _path(_paths(changing))], protocol)
        for status, words in _BY_STATUS.items():
            mappers.append(_mapper([*spoken, _status(status)], words, protocol))
        mappers.append(_mapper([*spoken, _at_least(500)], _OTHERWISE, protocol))
        mappers.append(_mapper([*spoken, _at_least(400)], _CLIENT_ERROR, protocol))
    return hcm.LocalReplyConfig(mappers=mappers)


def _honest(where: list[accesslog.AccessLogFilter], protocol: Protocol) -> list[hcm.ResponseMapper]:
    """Where money may move, an error is "unknown" unless it is certain that the body never left."""
    return [
        _mapper([*where, _flags(MAYBE_SEEN_FLAGS)], _UNKNOWN, protocol),
        _mapper([*where, _flags([_UNDECIDED_FLAG])], _OTHERWISE, protocol),
        _mapper([*where, _status(503)], _OTHERWISE, protocol),
        # A 504 without such a flag is ext_proc's: the body never left, and 504 would say that it may have.
        _mapper([*where, _status(504)], _OTHERWISE, protocol, answered=503),
        _mapper([*where, _at_least(500)], _UNKNOWN, protocol),
    ]


def _may_move_money(route: Route) -> bool:
    return route.operation in ("pay", "refund", "close")


def _paths(routes: Iterable[Route], protocol: Protocol | None = None) -> str:
    """A pattern for the paths of these routes; with WECHAT_V3 also for whatever its SDKs could call (`/v3/...`)."""
    patterns = [path_and_query_regex(route.match) for route in routes if protocol in (None, route.protocol)]
    if protocol is Protocol.WECHAT_V3:
        patterns.append("/v3/.*")
    return "|".join(f"(?:{pattern})" for pattern in dict.fromkeys(patterns))


def _mapper(
    filters: list[accesslog.AccessLogFilter], words: _Words, protocol: Protocol, answered: int | None = None
) -> hcm.ResponseMapper:
    code = words.wechat_code if protocol is Protocol.WECHAT_V3 else words.reason
    body = json.dumps({"code": code, "message": words.message})
    headers = [(names.REASON_HEADER, words.reason), (names.REQUEST_ID_HEADER, "%REQ(X-REQUEST-ID)%")]
    if words.retry_after:
        headers.append(("retry-after", "1"))
    condition = (
        filters[0] if len(filters) == 1 else accesslog.AccessLogFilter(and_filter=accesslog.AndFilter(filters=filters))
    )
    return hcm.ResponseMapper(
        filter=condition,
        status_code=answered,
        body_format_override=core.SubstitutionFormatString(
            text_format_source=core.DataSource(inline_string=body.replace("%", "%%")),
            content_type="application/json; charset=utf-8",
        ),
        headers_to_add=[_header(*pair) for pair in headers],
    )


def _header(name: str, value: str) -> core.HeaderValueOption:
    return core.HeaderValueOption(
        header=core.HeaderValue(key=name, value=value),
        append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _refused_by_ext_authz() -> hcm.ResponseMapper:
    condition = accesslog.MetadataFilter(
        matcher=matcher.MetadataMatcher(
            filter=names.AUTHZ_FILTER,
            path=[matcher.MetadataMatcherPathSegment(key=names.META_DECISION)],
            value=matcher.ValueMatcher(string_match=matcher.StringMatcher(exact=names.DECISION_DENY)),
        ),
        match_if_key_not_found=False,
    )
    return hcm.ResponseMapper(filter=accesslog.AccessLogFilter(metadata_filter=condition))


def _path(regex: str) -> accesslog.AccessLogFilter:
    header = route_v3.HeaderMatcher(
        name=":path", string_match=matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex=regex))
    )
    return accesslog.AccessLogFilter(header_filter=accesslog.HeaderFilter(header=header))


def _status(status: int) -> accesslog.AccessLogFilter:
    return _compare(accesslog.ComparisonFilterOp.EQ, status)


def _at_least(status: int) -> accesslog.AccessLogFilter:
    return _compare(accesslog.ComparisonFilterOp.GE, status)


def _compare(op: accesslog.ComparisonFilterOp, status: int) -> accesslog.AccessLogFilter:
    # The runtime key is demanded by Envoy's validation; nothing sets it.
    value = core.RuntimeUInt32(default_value=status, runtime_key="paymesh.unused")
    comparison = accesslog.ComparisonFilter(op=op, value=value)
    return accesslog.AccessLogFilter(status_code_filter=accesslog.StatusCodeFilter(comparison=comparison))


def _flags(flags: Iterable[str]) -> accesslog.AccessLogFilter:
    return accesslog.AccessLogFilter(response_flag_filter=accesslog.ResponseFlagFilter(flags=list(flags)))
