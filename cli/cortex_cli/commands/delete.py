"""`cortex delete -f`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cortex_cli.commands.common import DEFAULT_DATA_DIR, DataDir, ask, read_sources


def delete(
    files: Annotated[list[Path], typer.Option("-f", "--file", help="A manifest, or a folder of them.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Delete the resources of manifests. Documents and runs stay in the Lake: apply again and they are there."""
    objects = [obj for found in read_sources(files, warn=False).values() for obj in found]
    results = ask(data_dir.absolute(), "delete", objects=objects)
    for key, result in results.items():
        typer.echo(f"{key}: {'deleted' if result == 'Deleted' else 'was not there'}")
