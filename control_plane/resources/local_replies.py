"""Owns Envoy's own answers (404, 413, 429, 503, 504 ...): in the caller's protocol, and honest about a payment.

What ext_authz or ext_proc answer is in the caller's protocol already and passes as it is. Once the upstream may have
seen a payment, nobody may say that it failed: the answer is "unknown, query the order" (DESIGN 5.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route_v3
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type.matcher import v3 as matcher

from control_plane.resources import fallbacks
from control_plane.resources.matching import path_and_query_regex
from paymesh.payments import internal_names as names
from paymesh.payments.denial import Reason
from paymesh.payments.policy.compiled import Policy, Protocol, Route
from paymesh.payments.refusals import (
    OUTCOME_UNKNOWN,
    OUTCOME_UNKNOWN_WORDS,
    Addressee,
    Words,
    words_of,
    write_words,
)
from paymesh.payments.signers import Signer

MAYBE_SEEN_FLAGS = ("UT", "UC", "UR", "LR", "UPE", "UMSDR", "SI", "DT")
"""Response flags under which the upstream may have read the request: time-outs, resets and broken answers."""

_UNDECIDED_FLAG = "UAEX"
"""ext_authz gave no usable answer (503), or one that Envoy refuses (500): nothing was sent."""
_INJECTED_FLAG = "FI"


class _Answer(NamedTuple):
    """What one of Envoy's own answers says, in every vocabulary."""

    reason: str
    words: Words
    retry_after: bool = False


def _as_ours(reason: Reason, *, message: str | None = None, retry_after: bool = False) -> _Answer:
    """As ext_authz refuses for the same reason."""
    words = words_of(reason)
    return _Answer(str(reason), words if message is None else words._replace(message=message), retry_after)


def _malformed(status: int, message: str) -> _Answer:
    return _Answer("request_malformed", Words(status, "PARAM_ERROR", "40002", "isv.invalid-parameter", "10", message))


_BY_STATUS = {
    400: _malformed(400, "the request is not acceptable HTTP, or its path not canonical"),
    404: _as_ours(Reason.ROUTE_UNKNOWN),
    408: _malformed(408, "the request did not arrive in time"),
    413: _as_ours(Reason.BODY_TOO_LARGE),
    426: _malformed(426, "HTTP/1.1 or newer is needed"),
    429: _as_ours(Reason.RATE_LIMITED, retry_after=True),
    431: _malformed(431, "the headers are too large"),
}
_CLIENT_ERROR = _malformed(400, "the request is not acceptable here")
_OTHERWISE = _as_ours(Reason.UNAVAILABLE, message="not processed: the gateway cannot serve this now; retry later")
_UNANSWERED = _as_ours(
    Reason.UNAVAILABLE, message="no whole answer came from the service: whether it acted on the request is unknown"
)
_UNKNOWN = _Answer(OUTCOME_UNKNOWN, OUTCOME_UNKNOWN_WORDS)

REASONS = frozenset(answer.reason for answer in (*_BY_STATUS.values(), _CLIENT_ERROR, _OTHERWISE, _UNKNOWN))
"""Every `x-pay-reason` that Envoy's own answers have."""


@dataclass(frozen=True, slots=True)
class _Speaker:
    """One protocol's way of saying them, on the paths of its routes."""

    protocol: Protocol
    signers: Mapping[Protocol, Signer]

    def mapper(
        self, filters: list[accesslog.AccessLogFilter], answer: _Answer, answered: int | None = None
    ) -> hcm.ResponseMapper:
        """`answered`: the status to send; None: Envoy's own, where the protocol does not fix one."""
        to = Addressee(self.protocol, "%REQ(X-REQUEST-ID)%", self.signers)
        refusal = write_words(answer.words, answer.reason, answer.words.message, to)
        content_type, *headers = refusal.headers
        if answer.retry_after:
            headers.append(("retry-after", "1"))
        joined = accesslog.AccessLogFilter(and_filter=accesslog.AndFilter(filters=filters))
        return hcm.ResponseMapper(
            filter=filters[0] if len(filters) == 1 else joined,
            status_code=refusal.status if refusal.status != answer.words.status else answered,
            body_format_override=core.SubstitutionFormatString(
                text_format_source=core.DataSource(inline_string=refusal.body.decode().replace("%", "%%")),
                content_type=content_type[1],
            ),
            headers_to_add=[_header(*pair) for pair in headers],
        )


def local_replies(policy: Policy) -> hcm.LocalReplyConfig:
    """First match wins."""
    mappers = [_refused_by_ext_authz(), _answered_by_ext_proc(), *fallbacks.local_replies(policy)]
    present = {route.protocol for route in policy.routes}
    # WeChat's paths go late: they include whatever else begins with /v3/.
    general = (Protocol.WECHAT_V3, Protocol.PAYMESH)
    for protocol in (*(one for one in Protocol if one in present and one not in general), *general):
        speaker = _Speaker(protocol, policy.signers)
        where = [] if protocol is Protocol.PAYMESH else [_path(_paths(policy.routes, protocol))]
        changing = [route for route in policy.routes if route.protocol is protocol and _may_move_money(route)]
        if changing:
            mappers += _honest([*where, _path(_paths(changing))], speaker)
        mappers.append(speaker.mapper([*where, _flags(MAYBE_SEEN_FLAGS)], _UNANSWERED))
        for status, answer in _BY_STATUS.items():
            mappers.append(speaker.mapper([*where, _status(status)], answer))
        mappers.append(speaker.mapper([*where, _at_least(500)], _OTHERWISE))
        mappers.append(speaker.mapper([*where, _at_least(400)], _CLIENT_ERROR))
    return hcm.LocalReplyConfig(mappers=mappers)


def _honest(where: list[accesslog.AccessLogFilter], speaker: _Speaker) -> list[hcm.ResponseMapper]:
    """Where money may move, an error is "unknown" unless it is certain that the body never left."""
    return [
        speaker.mapper([*where, _flags(MAYBE_SEEN_FLAGS)], _UNKNOWN),
        speaker.mapper([*where, _flags([_UNDECIDED_FLAG])], _OTHERWISE),
        speaker.mapper([*where, _status(503)], _OTHERWISE),
        # A fault that the policy injects stands in the service's place (`faults`).
        speaker.mapper([*where, _flags([_INJECTED_FLAG]), _at_least(500)], _OTHERWISE),
        # A 504 without such a flag is ext_proc's: the body never left, and 504 would say that it may have.
        speaker.mapper([*where, _status(504)], _OTHERWISE, answered=503),
        speaker.mapper([*where, _at_least(500)], _UNKNOWN),
    ]


def _may_move_money(route: Route) -> bool:
    return any(one.operation in ("pay", "refund", "close") for one in (route, *route.variants))


def _paths(routes: Iterable[Route], protocol: Protocol | None = None) -> str:
    """A pattern for the paths of these routes; with WECHAT_V3 also for whatever its SDKs could call (`/v3/...`)."""
    patterns = [path_and_query_regex(route.match) for route in routes if protocol in (None, route.protocol)]
    if protocol is Protocol.WECHAT_V3:
        patterns.append("/v3/.*")
    return "|".join(f"(?:{pattern})" for pattern in dict.fromkeys(patterns))


def _header(name: str, value: str) -> core.HeaderValueOption:
    return core.HeaderValueOption(
        header=core.HeaderValue(key=name, value=value),
        append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _refused_by_ext_authz() -> hcm.ResponseMapper:
    return _as_it_is(names.AUTHZ_FILTER, names.META_DECISION, names.DECISION_DENY)


def _answered_by_ext_proc() -> hcm.ResponseMapper:
    return _as_it_is(names.OUTCOME_NAMESPACE, names.META_WORDED, names.WORDED)


def _as_it_is(namespace: str, key: str, value: str) -> hcm.ResponseMapper:
    """What carries this metadata was written in the caller's protocol already."""
    condition = accesslog.MetadataFilter(
        matcher=matcher.MetadataMatcher(
            filter=namespace,
            path=[matcher.MetadataMatcherPathSegment(key=key)],
            value=matcher.ValueMatcher(string_match=matcher.StringMatcher(exact=value)),
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
