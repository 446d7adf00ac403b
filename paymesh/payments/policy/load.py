"""Owns the way from YAML files to a compiled policy. A policy with any problem is refused whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

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
    return LoadedPolicy(replace(policy, version=_version(document, references)), files)


def load_policy(paths: Sequence[Path], environ: Mapping[str, str]) -> Policy:
    """The compiled policy of these files and folders. Raises PolicyErrors."""
    return load(paths, environ).policy


def _parse(tree: SourceTree, environ: Mapping[str, str]) -> PolicyDocument | None:
    try:
        return PolicyDocument.model_validate(tree.data, context={"environ": environ})
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False, include_context=False):
            tree.problems.append(_problem(tree, item["loc"], item["msg"], item["type"]))
        return None


def _problem(tree: SourceTree, loc: Sequence[int | str], message: str, kind: str) -> PolicyProblem:
    # pydantic puts union tags into the path; the source tree knows which parts are really there.
    shown: list[int | str] = []
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        if (*shown, part) in tree.locations or (last and kind in ("missing", "extra_forbidden")):
            shown.append(part)
    text = {"missing": "is required", "extra_forbidden": "unknown key"}.get(kind, message.removeprefix("Value error, "))
    return tree.problem(shown, text)


def _version(document: PolicyDocument, references: References) -> str:
    digest = hashlib.sha256(document.model_dump_json().encode())
    for path in sorted(references.contents):
        digest.update(str(path).encode() + b"\0" + hashlib.sha256(references.contents[path]).digest())
    return digest.hexdigest()[:16]
