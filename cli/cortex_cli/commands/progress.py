"""What `cortex up` shows while it waits, and at the end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cortex_cli.commands.common import ask

POLL_SECONDS: Final = 0.15
HOPELESS_LOOKS: Final = 14
"""So often in a row, which takes two seconds, nothing must be left to wait for until the wait is given up: one reason
may stand for another meanwhile. Time alone would count, too, while the machine stands still."""
SETTLED_LOOKS: Final = 4
"""So often in a row everything must be ready: after an apply, what depends on a change may only now learn of it."""
console: Final = Console(highlight=False)

Row = dict[str, Any]


def follow(directory: Path, timeout: float) -> dict[str, Any]:
    """Shows how the parts become ready; returns the last state: ready, or given up."""
    deadline = time.monotonic() + timeout
    said: dict[str, str] = {}
    hopeless = ready = 0
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        while True:
            state: dict[str, Any] = ask(directory, "status")
            parts = [row for row in state["rows"] if not row["pod"]]
            live.update(_table(parts)) if console.is_terminal else _say(parts, said)
            hopeless = hopeless + 1 if state["final"] else 0
            ready = ready + 1 if state["ready"] else 0
            if ready > SETTLED_LOOKS or hopeless > HOPELESS_LOOKS or time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
    if console.is_terminal:
        console.print(_table(parts))
    return state


def explain(state: dict[str, Any]) -> None:
    """Says of everything that is not ready why, and where its log is."""
    console.print("[red]Not everything is ready:[/red]")
    for row in state["rows"]:
        if row["ready"] or row["reason"] == "Completed":
            continue
        log = f"; log: {row['log']}" if row["log"] else ""
        console.print(f"  {escape(row['component'])}: {row['reason']}: {escape(row['message'])}{log}", soft_wrap=True)
    console.print(
        "It is tried again in the background. See `cortex status`; `cortex down` stops what runs.", soft_wrap=True
    )


def welcome(state: dict[str, Any], data_dir: Path, applied: list[str]) -> None:
    """Says where everything is and what to do next; `applied`: NAMESPACE/NAME of the indexes of this call."""
    gateway = state["gateway"]
    rest = f"http://127.0.0.1:{gateway['http_port']}"
    option = "" if data_dir == Path(".cortex") else f" --data-dir {data_dir}"
    console.print(f"[green]Ready.[/green]\n  REST   {rest}\n  Docs   {rest}/docs", soft_wrap=True)
    console.print(f"  gRPC   127.0.0.1:{gateway['grpc_port']}\nTry next:", soft_wrap=True)
    kind = "CortexIndex "
    there = [row["component"].removeprefix(kind) for row in state["rows"] if row["component"].startswith(kind)]
    for command in (
        f"curl -s {rest}/v1/indexes",
        *(_search(rest, name) for name in (applied or there)[:1]),
        f"cortex status{option}",
        f"cortex down{option}",
    ):
        console.print(f"  {escape(command)}", soft_wrap=True)


def _search(rest: str, index: str) -> str:
    namespace, _, name = index.partition("/")
    url = f"{rest}/v1/namespaces/{namespace}/indexes/{name}/search"
    return f"""curl -s {url} -H 'content-type: application/json' -d '{{"query": "..."}}'"""


def _table(parts: list[Row]) -> Table:
    table = Table.grid(padding=(0, 2))
    for row in parts:
        mark = "[green]ready[/green]" if row["ready"] else f"[yellow]{row['reason']}[/yellow]"
        table.add_row(escape(row["component"]), mark, escape(_remark(row)[:100]))
    return table


def _say(parts: list[Row], said: dict[str, str]) -> None:
    """A line for each part whose reason has changed."""
    for row in parts:
        remark = _remark(row)
        words = f"ready  {remark}".rstrip() if row["ready"] else f"{row['reason']}: {remark}".rstrip(": ")
        if said.get(row["component"], "").partition(":")[0] != words.partition(":")[0]:
            console.print(f"{escape(row['component'])}: {escape(words)}", soft_wrap=True)
        said[row["component"]] = words


def _remark(row: Row) -> str:
    """Why something is not ready; of what is ready what else there is to know: a revision is built, nothing serves."""
    if not row["ready"]:
        return str(row["message"])
    return "" if row["reason"] == "Ready" else f"{row['reason']}: {row['message']}".rstrip(": ")
