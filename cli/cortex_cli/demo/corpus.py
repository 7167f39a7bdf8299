"""Real documents that every machine which can run Cortex has: the public docstrings of its own Python."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

_SKIPPED = frozenset({"test", "tests", "idlelib", "idle_test", "lib2to3", "site-packages", "turtledemo", "__pycache__"})
_SHORTEST = 80
_LONGEST = 1000

Document = dict[str, Any]
"""{id, title, content, meta: {module, kind, package}}, as the gateway takes it."""


def python_documents(limit: int) -> list[Document]:
    """At most `limit` documents, the same each time: the standard library's, then the installed packages'."""
    paths = sysconfig.get_paths()
    stdlib, packages = Path(paths["stdlib"]), Path(paths["purelib"])
    return list(islice(_distinct(chain(_documents(stdlib, "python"), _documents(packages, ""))), limit))


def _distinct(documents: Iterator[Document]) -> Iterator[Document]:
    seen: set[str] = set()
    for document in documents:
        if seen.isdisjoint((document["id"], document["content"])):
            seen |= {document["id"], document["content"]}
            yield document


def _documents(root: Path, package: str) -> Iterator[Document]:
    for file in sorted(root.rglob("*.py")):
        relative = file.relative_to(root)
        if _SKIPPED.intersection(relative.parts) or any(part.startswith("_") for part in relative.parts[:-1]):
            continue
        module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        if module.rpartition(".")[2].startswith("_"):
            continue
        yield from _of_module(file, module, package or relative.parts[0].removesuffix(".py"))


def _of_module(file: Path, module: str, package: str) -> Iterator[Document]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, OSError):
        return  # A file that Python itself cannot read documents nothing.
    for name, kind, node in chain([(module, "module", tree)], _public(tree, module)):
        text = ast.get_docstring(node) or ""
        if _SHORTEST <= len(text) <= _LONGEST:
            meta = {"module": module, "kind": kind, "package": package}
            yield {"id": f"{package}:{name}", "title": name, "content": text, "meta": meta}


_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _public(tree: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, str, _Documented]]:
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        name = f"{prefix}.{node.name}"
        yield name, "class" if isinstance(node, ast.ClassDef) else "function", node
        if isinstance(node, ast.ClassDef):
            yield from _public(node, name)
