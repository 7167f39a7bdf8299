"""`cortex state history`: the events that made a state."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from cortex_cli.commands.common import DEFAULT_DATA_DIR, DataDir, fail
from cortex_cli.commands.state import words
from cortex_cli.commands.state.asking import (
    AggregateArgument,
    GatewayOption,
    NamespaceOption,
    ResourceArgument,
    aggregate_path,
    asked,
    target,
)
from cortex_cli.commands.table import print_table
from cortex_cli.gateway import Gateway

_PAGE = 500


def history(
    resource: ResourceArgument,
    aggregate: AggregateArgument,
    namespace: NamespaceOption = "default",
    after: Annotated[int, typer.Option("--after", min=0, help="Events behind this version.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 100,
    output: Annotated[str, typer.Option("-o", "--output", help="table, json or yaml.")] = "table",
    gateway: GatewayOption = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show the events of an aggregate, oldest first."""
    if output not in ("table", "json", "yaml"):
        fail(f"-o {output} is not known; use table, json or yaml")
    one = target(resource, namespace)
    with asked(gateway, data_dir) as asking:
        events, more = _read(asking, one.path(aggregate_path("history", aggregate)), after, limit)
    if output == "json":
        typer.echo(json.dumps({"events": events, "more": more}, indent=2, ensure_ascii=False))
    elif output == "yaml":
        import yaml

        typer.echo(yaml.safe_dump({"events": events, "more": more}, sort_keys=False, allow_unicode=True), nl=False)
    else:
        names = ("VERSION", "POSITION", "AT", "TYPE", "BY", "CHANGED")
        print_table(names, [_row(event) for event in events])
        if more:
            typer.echo(f"there are more: --after {events[-1]['version']}", err=True)


def _read(gateway: Gateway, path: str, after: int, limit: int) -> tuple[list[dict[str, Any]], bool]:
    events: list[dict[str, Any]] = []
    more = True
    while more and len(events) < limit:
        page = gateway.get(path, after=after, limit=min(limit - len(events), _PAGE))
        events += page["events"]
        after, more = (events[-1]["version"] if events else after), page["more"]
    return events, more


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    position = str(event["position"] or "not yet")
    return str(event["version"]), position, event["at"], event["type"], event["by"], words.changed(event)
