"""Owns the reference part of docs/policy.md: written from the models, so that it cannot say something else.

`python -m paymesh.payments.policy.reference` rewrites it; `--check` fails if it is stale.
"""

from __future__ import annotations

import argparse
import enum
import sys
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from paymesh.payments.policy.documents import PolicyDocument
from paymesh.payments.policy.values import WRITTEN_AS

BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"
_TITLES = {"PolicyDocument": "The documents"}
_PLAIN = {"int": "integer", "str": "text", "bool": "true or false", "tuple": "list", "NoneType": "nothing"}


def render() -> str:
    """The reference in Markdown: a section a model, a row a key."""
    lines: list[str] = []
    for model in _models(PolicyDocument, []):
        lines += [f"### {title(model)}", ""]
        if model.__doc__:
            lines += [" ".join(model.__doc__.split()), ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        lines += [_row(name, info) for name, info in model.model_fields.items()]
        lines.append("")
    return "\n".join(lines)


def title(model: type[BaseModel]) -> str:
    """`RateLimitDocument` -> `Rate limit`."""
    name = model.__name__.removesuffix("Document")
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
    return _TITLES.get(model.__name__, words.capitalize())


def _models(model: type[BaseModel], seen: list[type[BaseModel]]) -> list[type[BaseModel]]:
    if model not in seen:
        seen.append(model)
        for info in model.model_fields.values():
            for inner in _inner_models(info.annotation):
                _models(inner, seen)
    return seen


def _inner_models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _inner_models(part)


def _row(name: str, info: FieldInfo) -> str:
    kind = _written_as(info)
    default = "required" if info.is_required() else _default(info, kind)
    return f"| `{name}` | {kind or _type(info.annotation)} | {default} | {info.description or ''} |"


def _written_as(info: FieldInfo) -> str | None:
    """How a value is written that the model turns into something else; None where it is kept as it is."""
    readers = {item.func for item in info.metadata if isinstance(item, BeforeValidator)}
    return next((kind for reader, kind in WRITTEN_AS.items() if reader in readers), None)


def _default(info: FieldInfo, kind: str | None) -> str:
    value = info.default
    if kind == "duration":
        return f"`{value}ms`" if value % 1000 else f"`{value // 1000}s`"
    if kind == "percentage":
        return f"`{value // 100}`"
    if value is PydanticUndefined or value is None or value == () or isinstance(value, BaseModel):
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(str(item) for item in value)}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return " ".join(f"`{item}`" for item in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(part) for part in arguments if part is not type(None))
    if origin is tuple:
        return f"list of {_type(arguments[0])}" if arguments[-1] is Ellipsis else "JSON pointer"
    if origin is dict:
        return f"mapping to {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{title(annotation)}](#{title(annotation).lower().replace(' ', '-')})"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " ".join(f"`{item.value}`" for item in annotation)
    return _PLAIN.get(getattr(annotation, "__name__", ""), str(annotation))


def updated(text: str) -> str:
    """`text` with its reference part written anew. Raises ValueError if the marks are missing."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{BEGIN} and {END} are not both there")
    return f"{head}{BEGIN}\n\n{render()}\n{END}{tail}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the file, or with --check exit 1 if it is stale."""
    parser = argparse.ArgumentParser(description="Write the policy reference from the models.")
    parser.add_argument("file", nargs="?", type=Path, default=Path("docs/policy.md"))
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args(arguments)
    before = args.file.read_text(encoding="utf-8")
    after = updated(before)
    if args.check and before != after:
        sys.stderr.write(f"{args.file} is stale: run python -m paymesh.payments.policy.reference\n")
        return 1
    if not args.check:
        args.file.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
