"""Owns the way from YAML files to a compiled policy. A policy with any problem is refused whole."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from paymesh.payments.policy.compile import Compiler
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.documents import PolicyDocument
from paymesh.payments.policy.problems import PolicyErrors, PolicyProblem
from paymesh.payments.policy.references import References
from paymesh.payments.policy.yaml_source import SourceTree, read_sources


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    policy: Policy
    files: tuple[Path, ...]
    """Every file it was made from, referenced keys and secrets included: a change of any is a change of the policy."""
    documents: tuple[tuple[str, str], ...]
    """Names and texts of the YAML files alone, in the order in which their lists are joined."""


def load(paths: Sequence[Path], environ: Mapping[str, str]) -> LoadedPolicy:
    """Read, check and compile. Raises PolicyErrors with every problem found."""
    tree = read_sources(paths)
    document = _parse(tree, environ)
    references = References(environ)
    compiler = Compiler(document, tree, references) if document is not None else None
    # The models' problems hide nothing: documents that parse are compiled even when the YAML had other faults.
    policy = compiler.compile("") if compiler is not None else None
    problems = [*tree.problems, *(compiler.problems if compiler is not None else ())]
    files = (*tree.files, *sorted(references.touched))
    if problems or policy is None or document is None:
        raise PolicyErrors(problems, files)
    texts = tuple((file.name, tree.texts[file]) for file in tree.files)
    return LoadedPolicy(replace(policy, version=_version(document, references)), files, texts)


def load_policy(paths: Sequence[Path], environ: Mapping[str, str]) -> Policy:
    """The compiled policy of these files and folders. Raises PolicyErrors."""
    return load(paths, environ).policy


def _parse(tree: SourceTree, environ: Mapping[str, str]) -> PolicyDocument | None:
    try:
        return PolicyDocument.model_validate(tree.data, context={"environ": environ})
    except ValidationError as error:
        items = error.errors(include_url=False, include_input=False, include_context=False)
        known = {(problem.file, problem.line, problem.path) for problem in tree.problems}
        for item in items:
            # A list whose items were refused counts as empty for pydantic: the items' own problems say it better.
            inner = item["type"] == "too_short" and any(_inside(other["loc"], item["loc"]) for other in items)
            problem = _problem(tree, item)
            if not inner and (problem.file, problem.line, problem.path) not in known:
                tree.problems.append(problem)
        return None


def _inside(loc: Sequence[int | str], outer: Sequence[int | str]) -> bool:
    return len(loc) > len(outer) and tuple(loc[: len(outer)]) == tuple(outer)


_KEY = re.compile(r"[a-z_]{1,32}", re.ASCII)
"""What an unknown key looks like that is a slip. Another may be a secret: {s3cret} is a mapping in YAML."""
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


def _version(document: PolicyDocument, references: References) -> str:
    digest = hashlib.sha256(document.model_dump_json().encode())
    for path in sorted(references.contents):
        digest.update(str(path).encode() + b"\0" + hashlib.sha256(references.contents[path]).digest())
    return digest.hexdigest()[:16]
