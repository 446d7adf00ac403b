"""Owns what a known merchant may do: its routes and operations, and only in its own name.

Refuses a message that names another merchant's number or app than the one that signed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import unquote_plus

from paymesh.payments.credentials.claim import Authenticated
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.policy.compiled import Protocol, Route

_WECHAT_NUMBERS = ("mchid", "sp_mchid")
_WECHAT_APPS = ("appid", "sp_appid")
"""Of an ordinary merchant, and of a service provider that signs for its sub-merchants (sub_mchid is theirs)."""


def permitted(caller: Authenticated, route: Route) -> Denial | None:
    """Why this caller may not call this route; None if it may."""
    merchant = caller.merchant
    if merchant.routes is not None and route.name not in merchant.routes:
        return Denial(Reason.NOT_PERMITTED, f"{merchant.id} may not call route {route.name}")
    if merchant.operations is not None and route.operation not in merchant.operations:
        return Denial(Reason.NOT_PERMITTED, f"{merchant.id} may not {route.operation}")
    missing = set() if caller.scopes is None else route.scopes - caller.scopes
    if missing:
        return Denial(Reason.NOT_PERMITTED, f"the token lacks scope {', '.join(sorted(missing))}")
    return None


def in_its_own_name(
    caller: Authenticated, protocol: Protocol, document: object, query: str, app_id: str | None
) -> Denial | None:
    """Why a message speaks for somebody else; None if it does not. `app_id`: the route's own field for it."""
    if protocol is Protocol.WECHAT_V3:
        number = caller.proves.get("mchid")
        for name, value in _named(_WECHAT_NUMBERS, document, query):
            if value != number:
                return Denial(Reason.NOT_PERMITTED, f"{name} is not the merchant that signed", told=(f"/{name}",))
        for name, value in _named(_WECHAT_APPS, document, query):
            if caller.merchant.app_ids is not None and value not in caller.merchant.app_ids:
                return Denial(Reason.NOT_PERMITTED, f"{name} is none of the merchant's app ids", told=(f"/{name}",))
    if app_id is not None and app_id not in (caller.merchant.app_ids or ()) and app_id != caller.proves.get("app_id"):
        return Denial(Reason.NOT_PERMITTED, "the app id is none of the merchant's")
    proven_app = caller.proves.get("app_id")
    if proven_app is not None and caller.merchant.app_ids is not None and proven_app not in caller.merchant.app_ids:
        return Denial(Reason.NOT_PERMITTED, "the app id is none of the merchant's")
    return None


def _named(names: tuple[str, ...], document: object, query: str) -> Iterator[tuple[str, object]]:
    if isinstance(document, Mapping):
        yield from ((name, document[name]) for name in names if name in document)
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if unquote_plus(name) in names:
            yield unquote_plus(name), unquote_plus(value)
