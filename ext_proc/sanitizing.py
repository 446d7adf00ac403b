"""Owns the way of a request body: sanitised, or the request goes no further. Refuses to let it pass when in doubt."""

from __future__ import annotations

from ext_proc.messages import Answer, Checked, Continue, Phase, ReplaceRequestBody, Reply, RequestBody
from ext_proc.record import Record
from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.fields.sanitize import sanitize_body
from paymesh.payments.internal_names import DECISION_ALLOW
from paymesh.payments.policy.compiled import Policy, Protocol, Route
from paymesh.payments.refusals import Addressee, write_refusal
from paymesh.server.logs import describe_error


def sanitize_request(policy: Policy, message: RequestBody, record: Record, now_s: int) -> Reply:
    """The reply to a request body. Whatever goes wrong is a 503: the upstream must not see what was to be hidden."""
    checked = message.checked
    if checked is None or checked.decision != DECISION_ALLOW:
        return _unavailable(policy, checked, None, "no permission came with the body", record)
    route = policy.routes_by_name.get(checked.route)
    if route is None:
        return _unavailable(policy, checked, None, "the policy has no such route", record)
    if not route.sanitize_request:
        # Envoy sends only bodies of routes with rules, so it has a policy that we have not yet.
        return _unavailable(policy, checked, route, "the policy in force has no rules for this route", record)
    try:
        return _sanitize(route, checked, message.body, record, now_s)
    except BodyError as error:
        return _unavailable(policy, checked, route, f"the body is not readable ({error.kind})", record)
    except Exception as error:  # closed: a bug here must not let personal data through
        return _unavailable(policy, checked, route, describe_error(error), record)


def _sanitize(route: Route, checked: Checked, body: bytes, record: Record, now_s: int) -> Reply:
    if not body:
        return Continue(Phase.REQUEST_BODY)
    content_type = checked.content_type or None
    sanitized = sanitize_body(body, content_type, route.request_reading, route.sanitize_request, now_s)
    record.sanitized(checked, sanitized.changed)
    return ReplaceRequestBody(sanitized.body) if sanitized.changed else Continue(Phase.REQUEST_BODY)


def _unavailable(policy: Policy, checked: Checked | None, route: Route | None, why: str, record: Record) -> Answer:
    record.not_sanitized(checked, why)
    return Answer(write_refusal(Denial(Reason.UNAVAILABLE, why), addressee(policy, checked, route)))


def addressee(policy: Policy, checked: Checked | None, route: Route | None) -> Addressee:
    """Whom an answer of ours is written to, as far as is known here."""
    request_id = "" if checked is None else checked.request_id
    if route is None:
        return Addressee(Protocol.PAYMESH, request_id, policy.signers)
    method = dict(route.signed_parameters).get("method")
    return Addressee(route.protocol, request_id, policy.signers, alipay_method=method)
