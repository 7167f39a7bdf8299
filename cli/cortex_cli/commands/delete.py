"""`cortex delete -f`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from cortex_kinds.conditions import Reason

from cortex_cli.commands.common import DEFAULT_DATA_DIR, DataDir, ask, read_sources

_SAID: Final = {"Deleted": "deleted", "Deleting": "is being deleted"}
_LOOK_SECONDS: Final = 0.2
_TOLD: Final = (Reason.DATA_CLEANUP, Reason.WAITING_FOR_FINALIZERS)


def delete(
    files: Annotated[list[Path], typer.Option("-f", "--file", help="A manifest, or a folder of them.")],
    wait: Annotated[bool, typer.Option(help="Return when they are gone.")] = True,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Delete the resources of manifests. Their data stays, unless they say deletionPolicy: Delete."""
    from cortex_cli.local.applied import key_of

    directory = data_dir.absolute()
    objects = [obj for found in read_sources(files, warn=False).values() for obj in found]
    results = ask(directory, "delete", objects=objects)
    for key, result in results.items():
        typer.echo(f"{key}: {_SAID.get(result, 'was not there')}")
    for key, obj in {str(key_of(obj)): obj for obj in objects}.items():
        if wait and results.get(key) == "Deleting":
            _follow(directory, obj)


def _follow(directory: Path, obj: dict[str, Any]) -> None:
    """Until it is gone; says what it waits for, when that changes. The operator sees that it ends."""
    name, place = obj["metadata"]["name"], obj["metadata"].get("namespace") or "default"
    said = ""
    while True:
        there = ask(directory, "get", apiVersion=obj["apiVersion"], kind=obj["kind"], namespace=place)
        found = next((each for each in there if each["metadata"]["name"] == name), None)
        if found is None or "deletionTimestamp" not in found["metadata"]:
            break
        if (why := _why(found)) != said:
            said = why
            typer.echo(f"{obj['kind']} {place}/{name}: {why}")
        time.sleep(_LOOK_SECONDS)
    typer.echo(f"{obj['kind']} {place}/{name}: deleted")


def _why(obj: dict[str, Any]) -> str:
    conditions = obj.get("status", {}).get("conditions", ())
    return next((c["message"] for c in conditions if c["type"] == "Ready" and c["reason"] in _TOLD), "")
