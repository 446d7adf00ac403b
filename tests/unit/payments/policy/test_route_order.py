"""Which of two routes goes first, and which leaves the other no request."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.problems import PolicyErrors

SERVICES = "services: [{name: s, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: 1}]}]}]\nroutes:\n"


def policy_of(folder: Path, *matches: str) -> Policy:
    """Routes r0, r1, ... with these matches."""
    routes = [f"  - {{name: r{i}, operation: other, service: s, match: {{{one}}}}}" for i, one in enumerate(matches)]
    (folder / "p.yaml").write_text(SERVICES + "\n".join(routes) + "\n")
    return load_policy([folder], {})


def problems_of(folder: Path, *matches: str) -> list[str]:
    with pytest.raises(PolicyErrors) as refused:
        policy_of(folder, *matches)
    return [str(problem).removeprefix(f"{folder}/") for problem in refused.value.problems]


IN_ORDER = [
    "path: /a/b, headers: [{name: h, exact: x}], methods: [GET, PUT]",
    "path: /a/b, cookies: [{name: k, exact: x}], methods: [GET, PUT, DELETE]",
    "path: /a/b, cookies: [{name: k}], query_parameters: [{name: q}]",
    "path: /a/b, cookies: [{name: k}]",
    "path: /a/b",
    'path_template: "/a/{x}", methods: [GET]',
    'path_template: "/a/{with_a_long_name}"',
    'path_template: "/{x}/b"',
    'path_template: "/{x}/{y}"',
    "prefix: /a/b, methods: [PUT]",
    "prefix: /a/b, methods: [GET, PUT]",
    "prefix: /a",
    "prefix: /, headers: [{name: h}]",
    "prefix: /",
]


def test_more_specific_goes_first_however_they_are_written(tmp_path: Path) -> None:
    random_ = random.Random(7)
    for _ in range(20):
        written = random_.sample(IN_ORDER, len(IN_ORDER))
        policy = policy_of(tmp_path, *written)
        assert [written[int(route.name[1:])] for route in policy.routes] == IN_ORDER


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("path: /a", "path: /a"),
        ('path_template: "/a/{b}"', 'path_template: "/a/{c}"'),
        ("prefix: /a, methods: [GET, PUT]", "prefix: /a, methods: [PUT, GET]"),
        ("path: /a, headers: [{name: h}, {name: i, exact: x}]", "path: /a, headers: [{name: i, exact: x}, {name: h}]"),
        ("path: /a, cookies: [{name: k, exact: x}]", "path: /a, cookies: [{name: k, exact: x}]"),
        ("path: /a, query_parameters: [{name: q}]", "path: /a, query_parameters: [{name: q}]"),
    ],
)
def test_the_same_match_twice_is_refused_with_both_lines(first: str, second: str, tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, first, second)
    assert problem.startswith("p.yaml:4: routes[1].match: no request is left for it: every one is taken by r0 (")
    assert problem.endswith("p.yaml:3)")


def test_routes_that_take_everything_together_are_named(tmp_path: Path) -> None:
    (problem,) = problems_of(
        tmp_path, "path: /a, methods: [GET, PUT]", "path: /a, methods: [GET]", "path: /a, methods: [PUT]"
    )
    assert problem.startswith("p.yaml:3: routes[0].match")
    assert "by r1 (" in problem
    assert "and r2 (" in problem


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("path: /a", "prefix: /a"),
        ("path: /a, headers: [{name: h}]", "path: /a, cookies: [{name: h}]"),
        ("path: /a, headers: [{name: h, exact: x}]", "path: /a, headers: [{name: h, exact: y}]"),
        ("path: /a, methods: [GET]", "path: /a, methods: [PUT]"),
        ("path: /a, methods: [GET, PUT]", "path: /a, methods: [PUT, POST]"),
        ('path_template: "/a/{b}"', 'path_template: "/{a}/b"'),
    ],
)
def test_what_leaves_some_request_is_no_duplicate(first: str, second: str, tmp_path: Path) -> None:
    assert len(policy_of(tmp_path, first, second).routes) == 2
