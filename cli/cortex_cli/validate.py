"""`cortex validate`: checks manifests offline and prints every mistake with its file, line, path and reason."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from cortex_kinds.problems import Problem
from cortex_kinds.validate import Manifest, validate_bytes, validate_files


class Output(StrEnum):
    """How the result is printed."""

    TEXT = "text"
    JSON = "json"


def validate(
    files: Annotated[list[Path], typer.Argument(help="Files, folders (*.yaml and *.yml below them), or - for stdin.")],
    output: Annotated[Output, typer.Option("--output", "-o", help="text or json.")] = Output.TEXT,
) -> None:
    """Check manifests without a cluster: every mistake at once. Ends with 1 when there is one."""
    manifests, problems = check(files)
    errors = [problem for problem in problems if problem.severity == "error"]
    if output is Output.JSON:
        typer.echo(json.dumps([problem.to_json() for problem in problems], indent=2))
    else:
        for problem in problems:
            typer.echo(str(problem))
        typer.echo(_summary(manifests, errors))
    raise typer.Exit(1 if errors else 0)


def check(files: Iterable[Path]) -> tuple[list[Manifest], list[Problem]]:
    """The objects of files, of folders, and of stdin where `-` is among them; and what is wrong with them."""
    paths = list(files)
    manifests, problems = validate_files([path for path in paths if str(path) != "-"])
    if Path("-") in paths:
        more, found = validate_bytes(sys.stdin.buffer.read(), "<stdin>")
        return [*manifests, *more], [*problems, *sorted(found, key=lambda p: (p.line, p.column))]
    return manifests, problems


def _summary(manifests: list[Manifest], errors: list[Problem]) -> str:
    checked = sum(manifest.data.get("kind", "").startswith("Cortex") for manifest in manifests)
    others = len(manifests) - checked
    passed = f", {others} of other kinds passed over" if others else ""
    found = f"{len(errors)} mistake{'' if len(errors) == 1 else 's'}" if errors else "no mistakes"
    return f"{checked} checked{passed}: {found}"
