"""Owns values that must never be printed. Refuses to show them: repr and str are masked.

`reveal()` is the only way to the value, so every use can be found by searching for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret's bytes. Compares by value; prints as `Secret(***)`."""

    _value: bytes = field(repr=False)

    def reveal(self) -> bytes:
        """The secret itself: pass it to a cryptographic primitive, never to a log or an error."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__
