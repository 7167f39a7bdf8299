"""`cortex state watch`: the changes of a resource as they happen, none left out."""

from __future__ import annotations

import json
import re
import time
import uuid
from typing import Annotated, Any, Final

import typer

from cortex_cli.commands.common import DEFAULT_DATA_DIR, DataDir, fail
from cortex_cli.commands.state import words
from cortex_cli.commands.state.asking import (
    GatewayOption,
    NamespaceOption,
    ResourceArgument,
    Target,
    aggregate_path,
    asked,
    target,
)
from cortex_cli.gateway import Gateway, GatewayError, problem

_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_KINDS: Final = ("resource", "revision", "thread", "run")
_PLACE: Final = re.compile(r"[0-9]{1,18}(-[0-9a-f]{8})?")


def watch(
    resource: ResourceArgument,
    aggregate: Annotated[
        str, typer.Argument(metavar="AGGREGATE", help="Only of this one (run/ID) or kind (run). All without it.")
    ] = "",
    namespace: NamespaceOption = "default",
    after: Annotated[
        str | None,
        typer.Option(
            "--after",
            metavar="POSITION[-MARK]",
            help="Changes behind this position; with its mark: only in that history. From now on without it.",
        ),
    ] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="text or json (a line each).")] = "text",
    gateway: GatewayOption = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Follow every change until Ctrl-C. A lost connection is made again, and goes on after the last position."""
    if output not in ("text", "json"):
        fail(f"-o {output} is not known; use text or json")
    if after is not None and not _PLACE.fullmatch(after):
        fail(f"--after {after} is no position: write it like 12 or, with the mark that it came with, 12-0a1b2c3d")
    one = target(resource, namespace)
    try:
        with asked(gateway, data_dir) as asking:
            _Following(asking, one, _checked(asking, one, aggregate), output).run(after or "")
    except KeyboardInterrupt:
        return


def _checked(gateway: Gateway, one: Target, aggregate: str) -> str:
    """A kind, or the name of an aggregate as changes have it; it need not be there yet. Raises GatewayError."""
    if (kind := aggregate.rstrip("/")) in ("", *_KINDS):
        return kind
    try:
        gateway.get(one.path(aggregate_path("history", aggregate)), limit=1)
    except GatewayError as error:
        if error.reason != "AggregateNotFound":
            raise
    kind, _, name = aggregate.partition("/")
    return f"run/{uuid.UUID(name)}" if kind == "run" else aggregate


class _Following:
    def __init__(self, gateway: Gateway, one: Target, aggregate: str, output: str) -> None:
        self._gateway = gateway
        self._one = one
        self._aggregate = aggregate
        self._output = output
        self._position = ""
        self._tries = 0

    def run(self, after: str) -> None:
        """Ends by KeyboardInterrupt, or by GatewayError when to go on makes no sense."""
        self._position = after
        begun = False
        while True:
            try:
                for event_id, name, data in self._gateway.follow(self._one.path("changes"), self._position):
                    if not begun:
                        typer.echo(f"following {self._one} after position {event_id}; Ctrl-C ends it", err=True)
                    begun = True
                    self._take(event_id, name, data)
                why = "the gateway ended it"
            except GatewayError as error:
                if not begun or not error.retryable:
                    raise
                why = error.told
            if not self._tries:
                typer.echo(f"lost ({why}); going on after position {self._position}", err=True)
            time.sleep(_PAUSES[min(self._tries, len(_PAUSES) - 1)])
            self._tries += 1

    def _take(self, event_id: str, name: str, data: dict[str, Any]) -> None:
        if name == "interrupted":
            raise problem(data)
        if self._tries:
            typer.echo("connected again", err=True)
        self._position, self._tries = event_id or self._position, 0
        if name == "change" and self._wanted(data["aggregate"]):
            typer.echo(json.dumps(data, ensure_ascii=False) if self._output == "json" else _line(data))

    def _wanted(self, aggregate: str) -> bool:
        return self._aggregate in ("", aggregate, aggregate.partition("/")[0])


def _line(change: dict[str, Any]) -> str:
    head = f"{change['position']}  {change['at']}  {change['aggregate']}  {change['type']}"
    return f"{head}  {words.changed(change)}".rstrip()
