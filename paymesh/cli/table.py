"""Owns how verbs print a table: columns as wide as they must be."""

from __future__ import annotations

from collections.abc import Sequence


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """`rows`: the heads first."""
    print("\n".join(table_lines(rows)))


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """`rows`: the heads first."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
