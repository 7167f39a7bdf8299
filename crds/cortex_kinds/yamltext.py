"""YAML with positions; shields the checks from PyYAML, from what YAML has beyond JSON, and from hostile files.

Aliases are expanded up to a bound, keys are strings and stand once, there are no dates and no merge keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from cortex_kinds.base import MAX_DEPTH
from cortex_kinds.paths import Path, path_text
from cortex_kinds.problems import Problem

Position = tuple[int, int]
MAX_VALUES: Final = 100_000


@dataclass
class Document:
    """One YAML document: plain JSON data, and where each path's key and value begin (line and column from 1)."""

    file: str
    data: Any = None
    keys: dict[Path, Position] = field(default_factory=dict)
    values: dict[Path, Position] = field(default_factory=dict)

    def position(self, path: Path, *, key: bool = False) -> Position:
        """Where a path is written; that of its nearest parent when it is not."""
        places = (self.keys, self.values) if key else (self.values, self.keys)
        for length in range(len(path), -1, -1):
            for place in places:
                if found := place.get(path[:length]):
                    return found
        return (1, 1)


def read_documents(text: str, file: str) -> tuple[list[Document], list[Problem]]:
    """The documents of a text that are not empty, and what is wrong with it as YAML."""
    documents: list[Document] = []
    problems: list[Problem] = []
    loader = _Loader(text.removeprefix("\ufeff")) if not (bad := _unprintable(text, file)) else None
    try:
        while loader and loader.check_node():
            reader = _Reader(loader, Document(file), problems)
            if (node := loader.get_node()) is not None:
                reader.document.data = reader.read(node, ())
            documents += [reader.document] if reader.document.data is not None else []
    except yaml.YAMLError as error:
        problems.append(_syntax(error, file))
    except RecursionError:
        problems.append(Problem(file, 0, 0, "", "values are nested too deeply", f"at most {MAX_DEPTH} levels"))
    return documents, [*bad, *problems]


class _Loader(yaml.SafeLoader):
    """Without dates: in JSON, and so for the API server, they are strings."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the name and the kind of value that PyYAML reads
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Reader:
    def __init__(self, loader: _Loader, document: Document, problems: list[Problem]) -> None:
        self._loader = loader
        self._problems = problems
        self._left = MAX_VALUES
        self.document = document

    def read(self, node: yaml.Node, path: Path) -> Any:
        self._left -= 1
        if self._left < 0 or len(path) > MAX_DEPTH:
            what = "values are nested too deeply" if self._left >= 0 else f"more than {MAX_VALUES:,} values"
            raise yaml.MarkedYAMLError(problem=f"{what}; aliases may expand to them", problem_mark=node.start_mark)
        self.document.values[path] = _position(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, at)) for at, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key in data:
                self._problem(key_node, (*path, key), f"the key {key!r} is there twice", "remove one of them")
            if key is not None and key not in data:
                self.document.keys[(*path, key)] = _position(key_node)
                data[key] = self.read(value_node, (*path, key))
        return data

    def _key(self, node: yaml.Node, path: Path) -> str | None:
        if node.tag == "tag:yaml.org,2002:merge":
            self._problem(node, path, "merge keys (<<) are not supported", "write the fields out")
        elif not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            self._problem(node, path, "a key is a string", f'write "{getattr(node, "value", "KEY")}" in quotes')
        else:
            return str(node.value)
        return None

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            value = self._loader.construct_object(node)
        except ValueError as error:
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from error
        return value if isinstance(value, str | int | float | bool | None) else str(node.value)

    def _problem(self, node: yaml.Node, path: Path, reason: str, hint: str) -> None:
        self._problems.append(Problem(self.document.file, *_position(node), path_text(path), reason, hint))


def _position(node: yaml.Node) -> Position:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _syntax(error: yaml.YAMLError, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    reason = getattr(error, "problem", None) or str(error).splitlines()[0]
    hint = "indent with spaces, not with tabs" if "'\\t'" in reason else ""
    return Problem(file, line, column, "", f"not valid YAML: {reason}", hint)


def _unprintable(text: str, file: str) -> list[Problem]:
    found = yaml.reader.Reader.NON_PRINTABLE.search(text.removeprefix("\ufeff"))
    if not found:
        return []
    before = text[: found.start()]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    reason = f"the character U+{ord(found[0]):04X} cannot stand in YAML"
    return [Problem(file, line, column, "", reason, "is this a text file?")]
