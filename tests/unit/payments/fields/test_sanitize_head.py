"""Hiding fields of a request's head: path segments, query parameters, headers."""

from __future__ import annotations

import pytest

from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.limits import DEFAULT_READING
from paymesh.payments.fields.sanitize_head import Head, path_segments, sanitize_head
from paymesh.payments.policy.field_rules import Detector, MaskKind, Place, SanitizeAction, SanitizeRule
from tests.unit.payments.fields.rings import NOW_S, PII


def rule(place: Place, name: str | None, action: SanitizeAction = SanitizeAction.MASK, **more: object) -> SanitizeRule:
    return SanitizeRule(action, None if name is None else (name,), place, **more)  # type: ignore[arg-type]


def head(target: str, *rules: SanitizeRule, template: str = "/users/{phone}/orders", **headers: str) -> Head:
    named = {name.replace("_", "-"): tuple(value.split("|")) for name, value in headers.items()}
    return sanitize_head(target, template, named, DEFAULT_READING, rules, NOW_S)


PHONE = {"kind": MaskKind.PHONE}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/users/1/orders?z=1&phone=13812341234&a&B=%7e", "/users/1/orders?z=1&phone=138****1234&a&B=%7e"),
        ("/users/1/orders?phone=%31381234%31234", "/users/1/orders?phone=138****1234"),
        ("/users/1/orders?a=1", None),
        ("/users/1/orders", None),
        ("/users/1/orders?", None),
    ],
)
def test_a_query_parameter_changes_alone(target: str, expected: str | None) -> None:
    assert head(target, rule(Place.QUERY, "phone", **PHONE)).target == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/u?a=1&cvv=123&b=2", "/u?a=1&b=2"),
        ("/u?cvv=123&b=2", "/u?b=2"),
        ("/u?a=1&cvv=123", "/u?a=1"),
        ("/u?cvv=123", "/u"),
    ],
)
def test_a_dropped_parameter_takes_one_ampersand_with_it(target: str, expected: str) -> None:
    assert head(target, rule(Place.QUERY, "cvv", SanitizeAction.DROP), template="/u").target == expected


def test_every_value_of_a_query_is_searched() -> None:
    found = head(
        "/u?a=6222020000000000000&memo=tel+138+1234+1234",
        rule(Place.QUERY, None, detect=frozenset(Detector)),
        template="/u",
    )
    assert found.target == "/u?a=622202*********0000&memo=tel+138****1234"
    assert [str(change) for change in found.changed] == ["mask bank_account+email+pan+phone+resident_id (query) x2"]


def test_a_query_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(BodyError):
        head("/u?phone=1&phone=2", rule(Place.QUERY, "phone"), template="/u")


@pytest.mark.parametrize(
    ("target", "action", "expected"),
    [
        ("/users/13812341234/orders?q=1", SanitizeAction.MASK, "/users/138****1234/orders?q=1"),
        ("/users/%E5%BC%A0/orders", SanitizeAction.MASK, "/users/***/orders"),
        ("/users/138****1234/orders", SanitizeAction.MASK, None),
        ("/other/13812341234", SanitizeAction.MASK, None),
    ],
)
def test_a_path_segment_is_masked(target: str, action: SanitizeAction, expected: str | None) -> None:
    assert head(target, rule(Place.PATH, "phone", action, **PHONE)).target == expected


def test_a_truncated_segment_never_goes_away() -> None:
    gone = rule(Place.PATH, "phone", SanitizeAction.TRUNCATE, keep=0)
    assert head("/users/13812341234/orders", gone).target == "/users/*/orders"


def test_headers_are_replaced_or_removed() -> None:
    rules = (
        rule(Place.HEADER, "x-phone", **PHONE),
        rule(Place.HEADER, "authorization", SanitizeAction.DROP),
        rule(Place.HEADER, "x-note", detect=frozenset({Detector.PAN})),
        rule(Place.HEADER, "x-absent"),
        rule(Place.HEADER, "x-user", SanitizeAction.HASH, keys=PII),
    )
    found = head(
        "/u",
        *rules,
        template="/u",
        x_phone="13812341234|13912341234",
        authorization="Bearer x",
        x_note="fine",
        x_user="u1",
    )
    assert found.target is None
    assert found.removed == ("authorization",)
    assert dict(found.headers)["x-phone"] == "138****1234, 139****1234"
    assert dict(found.headers)["x-user"].startswith("hk:k1:")
    assert dict(found.headers).keys() == {"x-phone", "x-user"}


def test_named_segments_are_decoded() -> None:
    assert path_segments("/users/%E5%BC%A0%E4%B8%89/orders", "/users/{name}/orders") == {"name": "张三"}
    assert path_segments("/users/a/b/orders", "/users/{name}/orders") == {}
