"""What the commands share: options, manifests from files, words for errors."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

DataDir = Annotated[
    Path, typer.Option("--data-dir", help="Where the local cluster keeps its data.", envvar="CORTEX_DATA_DIR")
]
Files = Annotated[
    list[Path] | None, typer.Option("-f", "--file", help="A manifest, or a folder of them; may be given again.")
]
DEFAULT_DATA_DIR = Path(".cortex")


def fail(message: str) -> NoReturn:
    """Ends the command with 1 and one message."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)


def ask(directory: Path, verb: str, **arguments: Any) -> Any:
    """The supervisor's answer; ends the command when there is no cluster, or it refuses."""
    from cortex_cli.local import wire

    try:
        return wire.ask(directory, verb, **arguments)
    except (wire.NotRunning, ValueError) as error:
        fail(str(error))


def read_sources(files: list[Path], *, warn: bool = True) -> dict[str, list[dict[str, Any]]]:
    """Absolute path of each of `files` -> the objects in it. Ends the command when there is a mistake, naming all;
    `warn`: says, too, what may be one."""
    from cortex_kinds.validate import validate_files

    manifests, problems = validate_files(files)
    for problem in problems:
        if warn or problem.severity == "error":
            typer.echo(str(problem), err=True)
    nameless = [m for m in manifests if not m.key[3]]
    for manifest in nameless:
        typer.echo(f"{manifest.file}:{manifest.line}: error: metadata.name is missing", err=True)
    mistakes = len(nameless) + sum(problem.severity == "error" for problem in problems)
    if mistakes:
        fail(f"{mistakes} mistake{'s' if mistakes > 1 else ''} in the manifests: nothing was changed")
    sources: dict[str, list[dict[str, Any]]] = {str(file.absolute()): [] for file in files}
    for manifest in manifests:
        origin = next(file for file in files if Path(manifest.file).is_relative_to(file))
        sources[str(origin.absolute())].append(normal(manifest.data))
    return sources


def normal(obj: dict[str, Any]) -> dict[str, Any]:
    """As an API server keeps it: `stringData` of a Secret becomes `data`."""
    plain = obj.get("stringData")
    if obj["kind"] != "Secret" or not isinstance(plain, dict):
        return obj
    coded = {name: base64.b64encode(str(value).encode()).decode() for name, value in plain.items()}
    rest = {name: value for name, value in obj.items() if name != "stringData"}
    return {**rest, "data": {**(obj.get("data") or {}), **coded}}
