"""Checks manifests offline: text in, problems out. All mistakes at once, each with its line, path and reason.

Objects of other kinds (Secrets, ConfigMaps) are handed back unchecked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, Final

from cortex_kinds.base import API_VERSION, GROUP
from cortex_kinds.fields import field_mistakes
from cortex_kinds.graph import graph_mistakes
from cortex_kinds.index import CortexIndex
from cortex_kinds.paths import Path, path_text
from cortex_kinds.problems import Problem
from cortex_kinds.suggest import did_you_mean
from cortex_kinds.workflow import CortexWorkflow, IndexUse
from cortex_kinds.yamltext import Document, Position, read_documents

LIMIT_BYTES: Final = 2**20
KINDS: Final[dict[str, type[CortexIndex] | type[CortexWorkflow]]] = {
    "CortexIndex": CortexIndex,
    "CortexWorkflow": CortexWorkflow,
}


@dataclass(frozen=True)
class Manifest:
    """One object of a file. `model` is None for other kinds, and for an object with mistakes."""

    file: str
    line: int
    data: dict[str, Any]
    position: Callable[[Path], Position] = field(repr=False, compare=False)
    """Line and column of a path below the object."""
    model: CortexIndex | CortexWorkflow | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """API group, kind, namespace and name."""
        metadata = self.data.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        group = str(self.data.get("apiVersion", "")).rpartition("/")[0]
        namespace = str(metadata.get("namespace") or "default")
        return group, str(self.data.get("kind", "")), namespace, str(metadata.get("name", ""))


def validate_text(text: str, filename: str) -> list[Problem]:
    """What is wrong in a text of YAML documents, by line."""
    return _together([_checked(text, filename)])[1]


def validate_files(paths: Iterable[FilePath]) -> tuple[list[Manifest], list[Problem]]:
    """The objects of files, and of the *.yaml and *.yml files below folders, in order; and what is wrong with them,
    by file and line. Nothing is raised: a file that cannot be read is a problem."""
    files: list[FilePath] = []
    problems: list[Problem] = []
    for path in paths:
        found = _manifest_files(path) if path.is_dir() else [path]
        files += found
        if not found:
            problems.append(Problem(str(path), 0, 0, "", "no *.yaml or *.yml file in this folder"))
    manifests, more = _together([_file(path) for path in dict.fromkeys(files)])
    return manifests, [*problems, *more]


def _manifest_files(folder: FilePath) -> list[FilePath]:
    found = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [FilePath(here, name) for name in sorted(names) if name.endswith((".yaml", ".yml"))]
    return found


Checked = tuple[list[Manifest], list[Problem]]


def _file(path: FilePath) -> Checked:
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        return [], [Problem(str(path), 0, 0, "", f"cannot be read: {reason}", "is the path right?")]
    return validate_bytes(content, str(path))


def validate_bytes(content: bytes, filename: str) -> Checked:
    """The objects of a file's content, and what is wrong with each of them."""
    if len(content) > LIMIT_BYTES:
        return [], [
            Problem(filename, 0, 0, "", "is over 1 MiB", "split it: a manifest has no documents to index in it")
        ]
    try:
        return _checked(content.decode("utf-8"), filename)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        return [], [Problem(filename, line, column, "", "is not UTF-8", "save it as UTF-8")]


def _checked(text: str, filename: str) -> Checked:
    documents, problems = read_documents(text, filename)
    if not documents and not problems:
        problems = [Problem(filename, 0, 0, "", "is empty: there is nothing to check")]
    manifests: list[Manifest] = []
    for document in documents:
        for path, data in _objects(document.data):
            manifest, found = _object(document, path, data)
            manifests += [manifest] if manifest else []
            problems += found
    return manifests, problems


def _objects(data: Any) -> Iterator[tuple[Path, Any]]:
    """A document, or the items of a List."""
    if isinstance(data, dict) and data.get("kind") == "List" and isinstance(data.get("items"), list):
        yield from ((("items", at), item) for at, item in enumerate(data["items"]))
    else:
        yield (), data


def _object(document: Document, root: Path, data: Any) -> tuple[Manifest | None, list[Problem]]:
    def problem(path: Path, reason: str, hint: str = "", *, key: bool = False) -> Problem:
        line, column = document.position((*root, *path), key=key)
        return Problem(document.file, line, column, path_text((*root, *path)), reason, hint)

    if not isinstance(data, dict):
        return None, [problem((), "is not an object", "a manifest begins with apiVersion and kind")]
    manifest = Manifest(document.file, document.position(root)[0], data, lambda path: document.position((*root, *path)))
    if wrong := list(_type_mistakes(data)):
        return manifest, [problem(*mistake) for mistake in wrong]
    if not str(data["apiVersion"]).startswith(f"{GROUP}/"):
        return manifest, []
    model_type = KINDS[data["kind"]]
    model, mistakes = field_mistakes(data, model_type)
    problems = [problem(path, reason, hint, key=path_is_key) for path, reason, hint, path_is_key in mistakes]
    if model_type is CortexWorkflow and isinstance(data.get("spec"), dict):
        problems += [problem(("spec", *m.path), m.reason, m.hint) for m in graph_mistakes(data["spec"])]
    return replace(manifest, model=None if problems else model), problems


def _type_mistakes(data: dict[str, Any]) -> Iterator[tuple[Path, str, str]]:
    """What is wrong with apiVersion and kind."""
    version, kind = data.get("apiVersion"), data.get("kind")
    for name, value in (("apiVersion", version), ("kind", kind)):
        if not isinstance(value, str) or not value:
            known = f"{name}: {API_VERSION if name == 'apiVersion' else 'CortexIndex'}"
            yield (() if value is None else (name,)), f"{name} is missing or no string", f"for example {known}"
    if not isinstance(version, str) or not isinstance(kind, str) or not version or not kind:
        return
    near = did_you_mean(kind, KINDS)
    if version == API_VERSION and kind not in KINDS:
        yield ("kind",), f"there is no kind {kind!r} in {API_VERSION}", near or f"there are {', '.join(KINDS)}"
    elif version != API_VERSION and (version.startswith(f"{GROUP}/") or kind in KINDS):
        yield ("apiVersion",), f"there is no apiVersion {version!r} of {kind}", f"did you mean {API_VERSION}?"


def _together(files: list[Checked]) -> Checked:
    """The objects and problems of files with those that show only across them, in the order of the files."""
    manifests = [manifest for found, _ in files for manifest in found]
    within = [problem for _, found in files for problem in found]
    names = dict.fromkeys([p.file for p in within] + [m.file for m in manifests])
    order = {name: at for at, name in enumerate(names)}
    problems = dict.fromkeys([*within, *_twice(manifests), *_useless_indexes(manifests)])
    return manifests, sorted(problems, key=lambda p: (order[p.file], p.line, p.column, p.path, p.reason))


def _twice(manifests: list[Manifest]) -> Iterator[Problem]:
    first: dict[tuple[str, str, str, str], Manifest] = {}
    for manifest in manifests:
        _, kind, namespace, name = manifest.key
        before = first.setdefault(manifest.key, manifest)
        if name and before is not manifest:
            reason = f"{kind} {namespace}/{name} is there twice: also at {before.file}:{before.line}"
            yield Problem(manifest.file, manifest.line, 1, "metadata.name", reason, "remove or rename one")


def _useless_indexes(manifests: list[Manifest]) -> Iterator[Problem]:
    """Indexes that a workflow names and that are not in these files, or do not let it use them."""
    given = {manifest.key[2:]: manifest.model for manifest in manifests if manifest.key[1] == "CortexIndex"}
    for manifest in manifests:
        if not isinstance(manifest.model, CortexWorkflow):
            continue
        for at, use in enumerate(manifest.model.spec.indexes):
            if reason := _why_useless(use, manifest.key[2], given):
                path = ("spec", "indexes", at, "name")
                yield Problem(manifest.file, *manifest.position(path), path_text(path), reason, severity="warning")


def _why_useless(use: IndexUse, own: str, given: Mapping[tuple[str, str], object]) -> str:
    home = use.home(own)
    name = use.name if home == own else f"{home}/{use.name}"
    if (home, use.name) not in given:
        return f"the CortexIndex {name!r} is not in these files: it must be in the cluster"
    index = given[home, use.name]
    if home != own and isinstance(index, CortexIndex) and index.spec.access.others is None:
        return f"the CortexIndex {name!r} lets no other namespace use it: set its spec.access.allowedNamespaces"
    return ""
