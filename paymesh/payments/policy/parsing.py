"""Owns checking what was read from YAML against a document's model: each fault with file and line, in our words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from paymesh.payments.policy.problems import PolicyProblem
from paymesh.payments.policy.values import Document
from paymesh.payments.policy.yaml_source import SourceTree

_D = TypeVar("_D", bound=Document)


def parse(model: type[_D], tree: SourceTree, environ: Mapping[str, str]) -> _D | None:
    """None where something was wrong, which stands in the tree's problems then."""
    try:
        return model.model_validate(tree.data, context={"environ": environ})
    except ValidationError as error:
        items = error.errors(include_url=False, include_input=False, include_context=False)
        unread = tuple(tree.problems)
        known = {(problem.file, problem.line, problem.path) for problem in tree.problems}
        for item in items:
            # A list whose items were refused counts as empty for pydantic: the items' own problems say it better.
            inner = item["type"] == "too_short" and any(_inside(other["loc"], item["loc"]) for other in items)
            problem = _problem(tree, item)
            # What a validator says of a mapping means nothing while one of its values could not be read.
            spoilt = item["type"] == "value_error" and any(
                other.file == problem.file and _CHILD.fullmatch(other.path.removeprefix(problem.path))
                for other in unread
                if other.path.startswith(problem.path)
            )
            if not (inner or spoilt) and (problem.file, problem.line, problem.path) not in known:
                tree.problems.append(problem)
        return None


def _inside(loc: Sequence[int | str], outer: Sequence[int | str]) -> bool:
    return len(loc) > len(outer) and tuple(loc[: len(outer)]) == tuple(outer)


_KEY = re.compile(r"[a-z_]{1,32}", re.ASCII)
"""What an unknown key looks like that is a slip. Another may be a secret: {s3cret} is a mapping in YAML."""
_CHILD = re.compile(r"\.?[a-z_]+", re.ASCII)
_ENUM_MEMBER = re.compile(r"<\w+\.\w+: ('[^']*')>")
_MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "unknown key",
    "too_short": "needs at least one",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "string_type": "must be text (quote numbers)",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
}
"""Our words where pydantic's speak of Python."""


def _problem(tree: SourceTree, item: ErrorDetails) -> PolicyProblem:
    kind = item["type"]
    # pydantic puts union tags into the path; the source tree knows which parts are really there.
    shown: list[int | str] = []
    for index, part in enumerate(item["loc"]):
        last = index == len(item["loc"]) - 1
        if last and kind == "extra_forbidden" and not _KEY.fullmatch(str(part)):
            continue
        if (*shown, part) in tree.locations or (last and kind in ("missing", "extra_forbidden")):
            shown.append(part)
    message = _ENUM_MEMBER.sub(r"\1", item["msg"].removeprefix("Value error, "))
    return tree.problem(shown, _MESSAGES.get(kind, message))
