"""Which words each of Envoy's own answers gets: the mappers read as Envoy reads them, first match wins."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.accesslog import v3 as accesslog

from control_plane.resources.local_replies import MAYBE_SEEN_FLAGS, local_replies
from paymesh.payments.policy.load import load_policy

POLICY = """
merchants: [{id: m, credentials: [{scheme: hmac, key_id: k, secret: {file: secret}}]}]
services: [{name: card, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: 1}]}]}]
channels: [{name: card, service: card}]
routes:
  - name: pay
    match: {path: /pay, methods: [POST]}
    operation: pay
    schemes: [hmac]
    fields: {order_no: /order_no, amount: /amount}
    channels: [card]
  - name: other
    match: {prefix: /other/}
    operation: other
    service: card
"""
Answer = Callable[..., tuple[int, str]]
UNKNOWN, UNAVAILABLE = "outcome_unknown", "unavailable"


def matches(item: accesslog.AccessLogFilter, path: str, status: int, flag: str) -> bool:
    if item.and_filter is not None:
        return all(matches(inner, path, status, flag) for inner in item.and_filter.filters)
    if item.response_flag_filter is not None:
        return flag in item.response_flag_filter.flags
    if item.header_filter is not None:
        assert item.header_filter.header is not None
        wanted = item.header_filter.header.string_match
        assert wanted is not None
        assert wanted.safe_regex is not None
        return re.fullmatch(wanted.safe_regex.regex, path) is not None
    if item.metadata_filter is not None:
        return False  # nothing here is a refusal of ext_authz
    assert item.status_code_filter is not None
    comparison = item.status_code_filter.comparison
    assert comparison is not None
    assert comparison.value is not None
    limit = comparison.value.default_value
    return status == limit if comparison.op is accesslog.ComparisonFilterOp.EQ else status >= limit


@pytest.fixture
def answer(tmp_path: Path) -> Answer:
    (tmp_path / "secret").write_text("0123456789abcdef0123456789abcdef")
    (tmp_path / "policy.yaml").write_text(POLICY)
    mappers = local_replies(load_policy([tmp_path / "policy.yaml"], {})).mappers

    def find(path: str, status: int, flag: str = "") -> tuple[int, str]:
        """Status and `code` that the client gets."""
        for mapper in mappers:
            assert mapper.filter is not None
            if matches(mapper.filter, path, status, flag):
                assert mapper.body_format_override is not None
                source = mapper.body_format_override.text_format_source
                assert source is not None
                return mapper.status_code or status, json.loads(source.inline_string or "")["code"]
        raise AssertionError("no mapper speaks")

    return find


@pytest.mark.parametrize("flag", MAYBE_SEEN_FLAGS)
def test_a_payment_that_may_have_been_seen_is_unknown(answer: Answer, flag: str) -> None:
    for status in (500, 502, 503, 504):
        assert answer("/pay?x=1", status, flag) == (status, UNKNOWN)


def test_a_payment_that_never_left_was_not_processed(answer: Answer) -> None:
    for flag in ("UF", "UH", "UO", "UAEX", ""):  # without a flag: no channel, or nothing sanitised it
        assert answer("/pay", 503, flag) == (503, UNAVAILABLE)
    assert answer("/pay", 500, "UAEX") == (500, UNAVAILABLE)


def test_an_error_that_nobody_foresaw_is_unknown_where_money_may_move(answer: Answer) -> None:
    assert answer("/pay", 500) == (500, UNKNOWN)
    assert answer("/pay", 502, "a flag of a later Envoy") == (502, UNKNOWN)
    assert answer("/other/a", 500) == (500, UNAVAILABLE)


def test_the_sanitisers_timeout_does_not_look_like_the_channels(answer: Answer) -> None:
    assert answer("/pay", 504) == (503, UNAVAILABLE)
    assert answer("/other/a", 504, "UT") == (504, UNAVAILABLE)
    assert answer("/pay", 500, "FI") == (500, UNAVAILABLE)
    assert answer("/pay", 426) == (426, "request_malformed")


@pytest.mark.parametrize("status", [400, 403, 426, 431])
def test_what_the_client_must_change_is_not_to_be_sent_again(answer: Answer, status: int) -> None:
    assert answer("/pay", status) == (status, "request_malformed")
    assert answer("/v3/anything", status) == (status, "PARAM_ERROR")


def test_statuses_with_words_of_their_own(answer: Answer) -> None:
    assert answer("/nowhere", 404) == (404, "route_unknown")
    assert answer("/v3/nowhere", 404) == (404, "RESOURCE_NOT_EXISTS")
    assert answer("/pay", 413) == (413, "body_too_large")
    assert answer("/v3/pay", 429) == (429, "FREQUENCY_LIMITED")
