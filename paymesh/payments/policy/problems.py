"""Owns how a bad policy is reported: every problem at once, each as `file:line: path: message`.

Refuses to show a secret's value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

DocumentPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class PolicyProblem:
    """One thing wrong with the policy. `line` counts from 1; 0 where a whole file is meant."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.path + ': ' if self.path else ''}{self.message}"


class PolicyErrors(Exception):  # noqa: N818 - it holds many
    """The policy was refused whole. `problems` are sorted by file and line; `files` are all that were looked at."""

    def __init__(self, problems: Iterable[PolicyProblem], files: Sequence[Path] = ()) -> None:
        self.problems = tuple(sorted(set(problems)))
        self.files = tuple(files)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def format_path(path: DocumentPath) -> str:
    """`("routes", 0, "match")` -> `routes[0].match`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
