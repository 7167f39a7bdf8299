"""`cortex state get`: what a run, a thread, a revision, a resource or a replica is."""

from __future__ import annotations

import json
import re
from typing import Annotated, Final

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

_LEVELS: Final = ("Durable", "Latest", "Bounded")
_UNITS: Final = {"ms": 1, "s": 1000, "m": 60_000}


def get(
    resource: ResourceArgument,
    aggregate: AggregateArgument,
    namespace: NamespaceOption = "default",
    consistency: Annotated[
        str | None,
        typer.Option(
            "--consistency",
            help="Durable: as the Lake has it. Latest (without it): with all that was acknowledged before. Bounded: by"
            " --bound behind at most.",
        ),
    ] = None,
    bound: Annotated[
        str | None, typer.Option("--bound", help="How far a copy may be behind: 500ms, 2s, 1m. It means Bounded.")
    ] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="table, json or yaml.")] = "table",
    gateway: GatewayOption = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show a state, where it was read and how old it may be. Ends with 1 when there is none."""
    if output not in ("table", "json", "yaml"):
        fail(f"-o {output} is not known; use table, json or yaml")
    one, level, milliseconds = target(resource, namespace), _level(consistency, bound), _milliseconds(bound)
    with asked(gateway, data_dir) as asking:
        path = one.path(aggregate_path("state", aggregate))
        state = asking.get(path, consistency=level, boundMs=milliseconds)
    if output == "json":
        typer.echo(json.dumps(state, indent=2, ensure_ascii=False))
    elif output == "yaml":
        import yaml

        typer.echo(yaml.safe_dump(state, sort_keys=False, allow_unicode=True), nl=False)
    else:
        typer.echo(f"{state['aggregate']} of {one}: version {state['version']}, {words.source(state)}\n")
        fields = sorted(state["fields"].items())
        print_table(("FIELD", "VALUE"), [(name, words.value(value)) for name, value in fields])


def _level(consistency: str | None, bound: str | None) -> str:
    level = (consistency or ("Bounded" if bound else "Latest")).capitalize()
    if level not in _LEVELS:
        fail(f"--consistency {consistency} is not known; use {', '.join(_LEVELS)}")
    if bound and level != "Bounded":
        fail(f"--bound is of Bounded alone, not of {level}: leave one of both out")
    return level


def _milliseconds(bound: str | None) -> int | None:
    if bound is None:
        return None
    match = re.fullmatch(r"(\d{1,9})(ms|s|m)", bound)
    milliseconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < milliseconds <= 3_600_000:
        fail(f"--bound {bound} is no time of 1ms to 60m: write it like 500ms, 2s or 1m")
    return milliseconds
