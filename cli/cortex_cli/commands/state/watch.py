"""`cortex state watch`: the changes of a resource as they happen, none left out."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Final

import typer

from cortex_cli.commands.common import DEFAULT_DATA_DIR, DataDir, fail
from cortex_cli.commands.state import words
from cortex_cli.commands.state.asking import GatewayOption, NamespaceOption, ResourceArgument, Target, asked, target
from cortex_cli.gateway import Gateway, GatewayError, problem

_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


def watch(
    resource: ResourceArgument,
    aggregate: Annotated[
        str, typer.Argument(metavar="AGGREGATE", help="Only of this one (run/ID) or kind (run). All without it.")
    ] = "",
    namespace: NamespaceOption = "default",
    after: Annotated[
        int | None, typer.Option("--after", min=0, help="Changes behind this position. From now on without it.")
    ] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="text or json (a line each).")] = "text",
    gateway: GatewayOption = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Follow every change until Ctrl-C. A lost connection is made again, and goes on after the last position."""
    if output not in ("text", "json"):
        fail(f"-o {output} is not known; use text or json")
    one = target(resource, namespace)
    try:
        with asked(gateway, data_dir) as asking:
            _Following(asking, one, aggregate.strip("/"), output).run("" if after is None else str(after))
    except KeyboardInterrupt:
        return


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
        return self._aggregate in ("", aggregate) or aggregate.startswith(f"{self._aggregate}/")


def _line(change: dict[str, Any]) -> str:
    head = f"{change['position']}  {change['at']}  {change['aggregate']}  {change['type']}"
    return f"{head}  {words.changed(change)}".rstrip()
