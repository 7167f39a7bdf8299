"""Plain tables, as kubectl prints them: made for eyes and for awk alike."""

from __future__ import annotations

from collections.abc import Sequence

import typer


def print_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they must be; an empty last column is left out."""
    widths = [max(len(line[at]) for line in (names, *rows)) for at in range(len(names))]
    for line in (names, *rows):
        typer.echo("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
