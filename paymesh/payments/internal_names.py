"""Owns the names that paymesh's parts use among themselves: internal headers and metadata keys.

Envoy removes every `x-pay-*` header from the client's request before anything reads it, so what carries one of
these names was written by us.
"""

from __future__ import annotations

INTERNAL_HEADER_PREFIX = "x-pay-"

MERCHANT_HEADER = "x-pay-merchant"
OPERATION_HEADER = "x-pay-operation"
CHANNEL_HEADER = "x-pay-channel"
ROUTE_HEADER = "x-pay-route"
"""Names the route behind a match that several share."""
USER_HEADER = "x-pay-user"
ORDER_HEADER = "x-pay-order"
"""`matched` on a notification whose order was begun here and agrees."""
SPLIT_HEADER = "x-pay-split"
VERSION_HEADER = "x-pay-version"
"""The service's version that goes on answering for this order. Absent: the split chooses."""
REPLAY_HEADER = "x-pay-replay"
REASON_HEADER = "x-pay-reason"
REQUEST_ID_HEADER = "x-pay-request-id"
FALLBACK_HEADER = "x-pay-fallback"

ROUTE_EXTENSION = "paymesh.route"
"""Key in ext_authz's `context_extensions`: the route's name, written by the control plane."""
SALT_EXTENSION = "paymesh.split_salt."
"""Before a service's name: key in ext_authz's `context_extensions`, the salt of that service's release."""
ORDERS_STAY_EXTENSION = "paymesh.orders_stay."
"""Before a service's name: key in ext_authz's `context_extensions`, the versions (`v1,v2`) that go on answering for
orders that began on them."""

CLUSTER_TAG = "paymesh.cluster"
"""Tag of an access log's entry: the cluster that was chosen, whether or not it had a host."""
PINNED_EXTENSION = "paymesh.pinned."
"""Before a service's name: key in ext_authz's `context_extensions`, the merchants that a release sends to one version
whatever the split (`pinned_merchants.py`)."""

AUTHZ_FILTER = "envoy.filters.http.ext_authz"
"""Name of the ext_authz filter, and so the namespace of its dynamic metadata."""
SANITIZE_FILTER = "paymesh.ext_proc.sanitize"
ANSWER_FILTER = "paymesh.ext_proc.answer"
OBSERVE_FILTER = "paymesh.ext_proc.observe"
OUTCOME_NAMESPACE = "paymesh.outcome"
"""Namespace of the dynamic metadata that ext_proc writes about a response."""

# Keys of ext_authz's dynamic metadata (all values are strings).
META_DECISION = "decision"
DECISION_ALLOW = "allow"
DECISION_DENY = "deny"
META_ROUTE = "route"
META_OPERATION = "operation"
META_MERCHANT = "merchant"
META_MONEY = "money"
"""What the request is about, where it says so: minor units, a space, currency."""
META_MOVABLE = "movable"
"""The service that an allowed request goes to, where that has several versions: releases are judged by its end."""
META_SCHEME = "scheme"
META_CHANNEL = "channel"
META_REASON = "reason"
META_REQUEST_ID = "request_id"
META_ORDER_KEYS = "order_keys"
"""Names of this attempt in the order store, a line each."""
META_SETTLES_ORDER = "settles_order"
"""The order, by its name in the order store, whose payment or end this exchange's outcome may prove."""
META_REPLAYED = "replayed"
"""The same order or message has passed before."""
META_RECORDED = "recorded"
"""An attempt stands in the event log under the request's id, and waits for its end."""
META_HELD = "held"
"""Names, in shared state, of what the request holds until its end: concurrency slots and daily quotas, a line each."""
META_TIMED = "timed"
"""Latency limits that this exchange's duration belongs to, a line each: the limit's name, a space, the service or
channel."""
META_CHANNEL_WHY = "channel_why"
"""How the channel was found: names of channels and reasons."""
META_BEGUN_AT = "begun_at_s"
"""Unix seconds of the order's first attempt, where the channel's messages are written here."""
META_ORDERED = "ordered"
"""What was ordered, where it is known and the channel's messages are written here: minor units, a space, currency."""
META_TRACE_PARENT = "traceparent"
META_CONTENT_TYPE = "content_type"
"""The request's own, for ext_proc, which is shown a body without its headers."""

META_OUTCOME = "outcome"
"""Key in OUTCOME_NAMESPACE: an `Outcome` value."""
META_FAULT = "fault"
"""Key in OUTCOME_NAMESPACE, wherever META_OUTCOME is: a `Fault` value."""
META_ENDED = "ended"
"""Key in OUTCOME_NAMESPACE, its value ENDED: how the attempt ended is recorded."""
ENDED = "true"
META_WORDED = "worded"
"""Key in OUTCOME_NAMESPACE, its value WORDED: ext_proc answers itself, in the caller's protocol."""
WORDED = "true"


def version_cluster(service: str, version: str) -> str:
    """What Envoy calls the cluster of one version of a service."""
    return f"{service}|{version}"
