"""Owns what is found wrong while compiling, each with file and line, and reading what documents refer to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from paymesh.payments.policy.problems import DocumentPath, PolicyProblem
from paymesh.payments.policy.references import References, UnusableReference
from paymesh.payments.policy.values import SecretReference
from paymesh.payments.policy.yaml_source import SourceTree
from paymesh.payments.secrets import Secret

T = TypeVar("T")


class Named(Protocol):
    @property
    def name(self) -> str: ...


NamedT = TypeVar("NamedT", bound=Named)


class Findings:
    """Collects problems; resolves references relative to the file in which they stand."""

    def __init__(self, tree: SourceTree, references: References) -> None:
        self._tree = tree
        self.references = references
        self.problems: list[PolicyProblem] = []

    def problem(self, path: DocumentPath, message: str) -> None:
        self.problems.append(self._tree.problem(path, message))

    def place(self, path: DocumentPath) -> str:
        """`file:line` of the document at `path`, for a problem that lies in two places."""
        found = self._tree.locate(path)
        return f"{found.file}:{found.line}"

    def resolve(self, path: DocumentPath, read: Callable[..., T], source: object) -> T | None:
        """What `read` makes of `source`; None with a problem where it cannot be used."""
        try:
            return read(source, self._tree.locate(path).file)
        except UnusableReference as error:
            self.problem(path, str(error))
            return None

    def secret(
        self, path: DocumentPath, reference: SecretReference, at_least: int = 1, exactly: int | None = None
    ) -> Secret | None:
        """The secret, of so many bytes; None with a problem."""
        secret = self.resolve(path, self.references.secret, reference)
        if secret is None:
            return None
        length = len(secret.reveal())
        if exactly is not None and length != exactly:
            self.problem(path, f"the secret has {length} bytes, not {exactly}")
            return None
        if length < at_least:
            self.problem(path, f"the secret has {length} bytes; at least {at_least} are required")
            return None
        return secret

    def unique(self, documents: Sequence[NamedT], path: DocumentPath) -> list[tuple[int, NamedT]]:
        """All of them with their places in the list at `path`; a problem for every name that is there again."""
        seen: set[str] = set()
        for index, document in enumerate(documents):
            if document.name in seen:
                self.problem((*path, index, "name"), f"{document.name} is defined twice")
            seen.add(document.name)
        return list(enumerate(documents))

    def file(self, path: DocumentPath, name: str) -> Path:
        """A file that the document at `path` names, relative to its own folder."""
        return self._tree.locate(path).file.parent.absolute() / name

    def lookup(self, names: Sequence[str], known: Mapping[str, T], what: str, path: DocumentPath) -> list[T]:
        """The known ones of `names`, in their order; a problem for every other and for every repetition."""
        for number, name in enumerate(names):
            if name not in known:
                self.unknown((*path, number), what, name, known)
            elif name in names[:number]:
                self.problem((*path, number), f"{name} is named twice")
        return [known[name] for name in names if name in known]

    def unknown(self, path: DocumentPath, what: str, name: str, known: Mapping[str, object]) -> None:
        choices = ", ".join(sorted(known)[:10]) or "none is defined"
        self.problem(path, f"unknown {what} {name} (known: {choices})")
