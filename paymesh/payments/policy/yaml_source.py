"""Owns reading YAML into plain values while remembering the file and line of each. Refuses duplicate keys and aliases.

Lists of the same top-level name in several files are joined, in file-name order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from paymesh.payments.policy.problems import DocumentPath, PolicyProblem, format_path

MAX_FILE_BYTES = 64 * 1024 * 1024
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Location:
    file: Path
    line: int


@dataclass
class SourceTree:
    """The joined documents, the place of each value, and what was wrong with the YAML itself."""

    data: dict[str, object] = field(default_factory=dict)
    locations: dict[DocumentPath, Location] = field(default_factory=dict)
    problems: list[PolicyProblem] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    texts: dict[Path, str] = field(default_factory=dict)
    """What stood in each file that could be read."""

    def locate(self, path: Sequence[object]) -> Location:
        """The place of the nearest known value. Parts that are no keys (pydantic's union tags) are passed over."""
        found: DocumentPath = ()
        location = self.locations.get((), Location(self.files[0] if self.files else Path("policy"), 0))
        for part in path:
            if isinstance(part, str | int) and (*found, part) in self.locations:
                found = (*found, part)
                location = self.locations[found]
        return location

    def problem(self, path: Sequence[object], message: str) -> PolicyProblem:
        location = self.locate(path)
        shown = tuple(part for part in path if isinstance(part, str | int))
        return PolicyProblem(str(location.file), location.line, format_path(shown), message)


def policy_files(paths: Sequence[Path]) -> list[Path]:
    """The YAML files of these files and folders (folders: *.yaml and *.yml, by name, not recursive)."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files.extend(sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml") and p.is_file()))
        else:
            files.append(path)
    return files


def read_sources(paths: Sequence[Path]) -> SourceTree:
    """Read every policy file below `paths`. Problems are collected, never raised."""
    tree = SourceTree(files=policy_files(paths))
    if not tree.files:
        tree.problems.append(PolicyProblem(" ".join(str(p) for p in paths), 0, "", "no policy file (*.yaml) found"))
    for file in tree.files:
        _read_file(file, tree)
    return tree


def read_text(name: str, text: str) -> SourceTree:
    """The documents of one text, which problems call by this name. Problems are collected, never raised."""
    tree = SourceTree(files=[Path(name)])
    _read_text(Path(name), text, tree)
    return tree


def _read_file(file: Path, tree: SourceTree) -> None:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            tree.problems.append(PolicyProblem(str(file), 0, "", f"larger than {MAX_FILE_BYTES} bytes"))
            return
        _read_text(file, content.decode("utf-8"), tree)
    except OSError as error:
        tree.problems.append(PolicyProblem(str(file), 0, "", f"cannot be read: {error.strerror or error}"))
    except UnicodeDecodeError as error:
        tree.problems.append(PolicyProblem(str(file), 0, "", f"is not UTF-8 (byte {error.start})"))


def _read_text(file: Path, text: str, tree: SourceTree) -> None:
    tree.texts[file] = text
    try:
        for node in yaml.compose_all(text, Loader=_LOADER):
            _FileReader(file, tree).add(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = getattr(error, "problem", None) or "not readable as YAML"
        tree.problems.append(PolicyProblem(str(file), mark.line + 1 if mark else 0, "", f"not YAML: {message}"))


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"^[-+]?(0|[1-9][0-9]*)$")


class _FileReader:
    def __init__(self, file: Path, tree: SourceTree) -> None:
        self._file = file
        self._tree = tree
        self._seen: set[int] = set()

    def add(self, node: yaml.Node | None) -> None:
        if node is None:
            return
        if not isinstance(node, yaml.MappingNode):
            self._problem(
                node, (), "a policy document is a mapping with merchants, routes, channels, services and so on"
            )
            return
        if not self._tree.locations:
            self._tree.locations[()] = self._location(node)
        for name, key_node, value_node in self._members(node, ()):
            self._tree.locations.setdefault((name,), self._location(key_node))
            if isinstance(value_node, yaml.SequenceNode):
                joined = self._tree.data.setdefault(name, [])
                if isinstance(joined, list):
                    for item in value_node.value:
                        joined.append(self._value(item, (name, len(joined))))
            elif isinstance(value_node, yaml.ScalarNode) and value_node.tag == "tag:yaml.org,2002:null":
                continue
            elif name in self._tree.data:
                self._problem(key_node, (name,), "is given in another file already, and only lists are joined")
            else:
                self._tree.data[name] = self._value(value_node, (name,))

    def _value(self, node: yaml.Node, path: DocumentPath) -> object:
        self._tree.locations[path] = self._location(node)
        if id(node) in self._seen or len(path) > _MAX_DEPTH:
            self._problem(node, path, "YAML aliases and very deep nesting are not supported")
            return None
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return {
                name: self._keyed(name, key_node, child, path) for name, key_node, child in self._members(node, path)
            }
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _keyed(self, name: str, key_node: yaml.Node, child: yaml.Node, path: DocumentPath) -> object:
        value = self._value(child, (*path, name))
        self._tree.locations[(*path, name)] = self._location(key_node)
        return value

    def _scalar(self, node: yaml.Node, path: DocumentPath) -> object:
        text = str(node.value)
        # YAML 1.1 reads 010 as eight and 1:30 as ninety; here an integer is decimal or it is text.
        if node.tag == "tag:yaml.org,2002:int":
            return int(text) if _INTEGER.match(text) else text
        if node.tag == "tag:yaml.org,2002:bool":
            return text.lower() == "true" if text.lower() in ("true", "false") else text
        if node.tag == "tag:yaml.org,2002:null":
            return None
        if node.tag == "tag:yaml.org,2002:float":
            self._problem(node, path, "binary floats are not used here; quote a decimal number")
            return None
        return text

    def _members(self, node: yaml.MappingNode, path: DocumentPath) -> list[tuple[str, yaml.Node, yaml.Node]]:
        members: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(key_node, path, "a key must be plain text")
            elif key_node.value in members:
                self._problem(key_node, (*path, key_node.value), "duplicate key")
            else:
                members[key_node.value] = (str(key_node.value), key_node, value_node)
        return list(members.values())

    def _location(self, node: yaml.Node) -> Location:
        return Location(self._file, node.start_mark.line + 1)

    def _problem(self, node: yaml.Node, path: DocumentPath, message: str) -> None:
        self._tree.problems.append(PolicyProblem(str(self._file), node.start_mark.line + 1, format_path(path), message))
