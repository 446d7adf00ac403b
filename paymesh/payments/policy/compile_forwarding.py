"""Owns turning what a route says of Envoy's part into its compiled form, and refusing what could pay twice.

A request that may move money, or let somebody in, is sent again only when it is certain that no service has processed
it: connect_failure and reset_before_request are Envoy's own knowledge, of a request that never left; refused_stream is
the service's word, which RFC 9113 section 8.7 makes binding. Anything else (an answer of 500, a timeout) says nothing
about the payment: repeating it is the caller's business, who has an order number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from paymesh.payments.internal_names import MERCHANT_HEADER
from paymesh.payments.policy import compiled as c
from paymesh.payments.policy import documents as d
from paymesh.payments.policy.compile_rewriting import compile_rewriting
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.forwarding import NOT_PROCESSED, DeclaredAnswer, Fault, Forwarding, Mirror, RetryPolicy
from paymesh.payments.policy.problems import DocumentPath
from paymesh.payments.policy.route_checks import PROTOCOLS, REMOVED_HEADERS
from paymesh.payments.policy.route_documents import FaultInjectionDocument, RetryPolicyDocument
from paymesh.payments.policy.service_documents import ServiceDocument


def compile_forwarding(
    document: d.RouteDocument, path: DocumentPath, services: Mapping[str, c.Service], findings: Findings
) -> Forwarding:
    if document.safe_to_repeat and document.operation not in _HARMLESS:
        findings.problem((*path, "safe_to_repeat"), f"a {document.operation} route is never safe to repeat")
    if document.response_cache is not None:
        findings.problem(
            (*path, "response_cache"),
            "Envoy's cache knows host and path, not who asks: one merchant would get another's answer (decision 0015)",
        )
    answer = None if document.fallback is None else document.fallback.answer
    if document.fallback is not None:
        _check_fallback(document, (*path, "fallback"), findings)
    return Forwarding(
        safe_to_repeat=document.safe_to_repeat,
        idle_timeout_ms=document.idle_timeout,
        retry=None if document.retry_policy is None else _retry(document, document.retry_policy, path, findings),
        fallback_answer=None if answer is None else DeclaredAnswer(answer.status, answer.content_type, answer.body),
        fallback_service=None if document.fallback is None else document.fallback.service,
        mirrors=tuple(_mirrors(document, path, services, findings)),
        rewriting=compile_rewriting(document, path, findings),
        fault=None if document.fault_injection is None else _fault(document.fault_injection, path, findings),
    )


def check_forwarding(document: d.PolicyDocument, findings: Findings) -> None:
    """What routes say of Envoy's part, against the rest of the policy."""
    services = {service.name: service for service in document.services}
    allowed = document.gateway is not None and document.gateway.allow_fault_injection
    for index, route in enumerate(document.routes):
        path: DocumentPath = ("routes", index)
        if route.fault_injection is not None and not allowed:
            findings.problem((*path, "fault_injection"), "only with gateway.allow_fault_injection: true, for trials")
        if route.fallback is not None:
            _check_fallback_services(route, (*path, "fallback"), services, document.channels, findings)


_HARMLESS = (c.Operation.QUERY, c.Operation.OTHER)


def repeats(document: d.RouteDocument) -> bool:
    """Whether a request of this route does no harm when a service sees it twice."""
    if document.operation is c.Operation.OTHER:
        return document.safe_to_repeat
    return document.operation is c.Operation.QUERY


def _retry(
    document: d.RouteDocument, policy: RetryPolicyDocument, path: DocumentPath, findings: Findings
) -> RetryPolicy:
    there: DocumentPath = (*path, "retry_policy")
    for number, reason in enumerate(policy.retry_on):
        if reason in policy.retry_on[:number]:
            findings.problem((*there, "retry_on", number), f"{reason} is named twice")
        elif reason not in NOT_PROCESSED and not repeats(document):
            why = (
                "only with safe_to_repeat: true"
                if document.operation is c.Operation.OTHER
                else f"the service may have processed it: a {document.operation} request is not sent twice"
            )
            findings.problem((*there, "retry_on", number), f"{reason}: {why}")
    if policy.per_try_timeout is not None:
        if NOT_PROCESSED.issuperset(policy.retry_on):
            findings.problem(
                (*there, "per_try_timeout"), "nothing in retry_on sends again what it ends: timeout alone bounds it"
            )
        elif policy.per_try_timeout >= document.timeout:
            findings.problem((*there, "per_try_timeout"), "is smaller than timeout, or it never ends an attempt")
    return RetryPolicy(
        attempts=policy.attempts,
        retry_on=policy.retry_on,
        per_try_timeout_ms=policy.per_try_timeout,
        base_interval_ms=policy.retry_back_off.base_interval,
        max_interval_ms=policy.retry_back_off.max_interval,
    )


def _fault(document: FaultInjectionDocument, path: DocumentPath, findings: Findings) -> Fault:
    for number, header in enumerate(document.headers):
        if header.name.startswith(REMOVED_HEADERS) and header.name != MERCHANT_HEADER:
            findings.problem(
                (*path, "fault_injection", "headers", number),
                f"a caller cannot send this header: Envoy removes it; of the gateway's own only {MERCHANT_HEADER}",
            )
    delay, abort = document.delay, document.abort
    return Fault(
        delay_ms=None if delay is None else delay.fixed_delay,
        delayed=0 if delay is None else delay.percentage,
        status=None if abort is None else abort.http_status,
        aborted=0 if abort is None else abort.percentage,
        headers=tuple((header.name, header.exact) for header in document.headers),
    )


def _check_fallback(document: d.RouteDocument, path: DocumentPath, findings: Findings) -> None:
    fallback = document.fallback
    assert fallback is not None
    if document.operation not in _HARMLESS:
        findings.problem(path, f"a {document.operation} route has none: nothing may stand in for what it asks for")
    elif fallback.answer is not None and any(PROTOCOLS[one] is not c.Protocol.PAYMESH for one in document.schemes):
        findings.problem((*path, "answer"), "these callers' SDKs believe a provider's signed answers only")
    elif fallback.answer is not None and _observes(document):
        findings.problem((*path, "answer"), "needs observe_response: false: it is nobody's word on an order's outcome")
    elif fallback.service is not None and document.service is None:
        findings.problem((*path, "service"), "an order stays with its channel: only a route with a service has one")
    elif fallback.service is not None and fallback.service == document.service:
        findings.problem((*path, "service"), "is the route's own service")


def _observes(document: d.RouteDocument) -> bool:
    observed = document.observe_response
    return document.operation is c.Operation.QUERY if observed is None else observed


def _check_fallback_services(
    route: d.RouteDocument,
    path: DocumentPath,
    services: Mapping[str, ServiceDocument],
    channels: Iterable[d.ChannelDocument],
    findings: Findings,
) -> None:
    fallback = route.fallback
    assert fallback is not None
    if fallback.service is not None and fallback.service not in services:
        findings.unknown((*path, "service"), "service", fallback.service, services)
    elif fallback.service is not None and len(services[fallback.service].versions) > 1:
        findings.problem((*path, "service"), f"{fallback.service} has several versions: a fallback has one")
    served = {route.service, *(channel.service for channel in channels if channel.name in route.channels)}
    for name in sorted(one for one in served if one is not None and one in services):
        service = services[name]
        if service.health_check is None and service.outlier_detection is None:
            findings.problem(path, f"service {name} has neither health_check nor outlier_detection: it is never ill")
        elif service.panic_threshold:
            findings.problem(path, f"service {name} has a panic_threshold: its sick hosts are asked all the same")


def _mirrors(
    document: d.RouteDocument, path: DocumentPath, services: Mapping[str, c.Service], findings: Findings
) -> Iterator[Mirror]:
    for number, mirror in enumerate(document.request_mirror_policies):
        there: DocumentPath = (*path, "request_mirror_policies", number)
        service = services.get(mirror.service)
        if not document.safe_to_repeat or document.operation not in _HARMLESS:
            findings.problem(there, "only with safe_to_repeat: true on a query or other route: two services would act")
        elif service is None:
            findings.unknown((*there, "service"), "service", mirror.service, services)
        elif mirror.service == document.service:
            findings.problem((*there, "service"), "is the route's own service")
        elif len(service.versions) > 1:
            findings.problem((*there, "service"), f"{mirror.service} has several versions: copies go to one")
        else:
            yield Mirror(mirror.service, service.versions[0].name, mirror.percentage)
