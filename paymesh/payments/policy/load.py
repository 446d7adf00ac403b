"""Owns the way from YAML files to a compiled policy. A policy with any problem is refused whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paymesh.payments.policy.compile import Compiler
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.documents import PolicyDocument
from paymesh.payments.policy.parsing import parse
from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.policy.references import References
from paymesh.payments.policy.yaml_source import read_sources


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
    document = parse(PolicyDocument, tree, environ)
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


def _version(document: PolicyDocument, references: References) -> str:
    digest = hashlib.sha256(document.model_dump_json().encode())
    for path in sorted(references.contents):
        digest.update(str(path).encode() + b"\0" + hashlib.sha256(references.contents[path]).digest())
    return digest.hexdigest()[:16]
