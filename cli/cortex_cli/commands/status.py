"""`cortex status`."""

from __future__ import annotations

from typing import Annotated

import typer

from cortex_cli.commands.common import DEFAULT_DATA_DIR, DataDir, ask


def status(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Show what runs, and what is not ready and why. Ends with 1 when something is not ready."""
    import json

    state = ask(data_dir.absolute(), "status")
    if output == "json":
        typer.echo(json.dumps(state, indent=2))
    else:
        _print(state["rows"])
    raise typer.Exit(0 if state["ready"] else 1)


def _print(rows: list[dict[str, object]]) -> None:
    from cortex_cli.commands.table import print_table

    names = ("COMPONENT", "READY", "REASON", "PID", "PORT", "RESTARTS", "MESSAGE")
    fields = ("component", "ready", "reason", "pid", "port", "restarts", "message")
    print_table(names, [[_text(row, field) for field in fields] for row in rows])


def _text(row: dict[str, object], field: str) -> str:
    value = row[field]
    if field == "ready" and row["pod"] and row["reason"] == "Completed":
        return "done"
    if isinstance(value, bool):
        return "yes" if value else "no"
    # A resource is no process: it has no pid and does not restart.
    return str(value) if value or (field == "restarts" and row["pid"]) else ""
