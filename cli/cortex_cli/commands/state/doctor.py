"""`cortex state doctor`: whether the state is what happened. It changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from cortex_cli.commands.common import DEFAULT_DATA_DIR, DataDir, fail
from cortex_cli.commands.state import words
from cortex_cli.commands.state.asking import GatewayOption, Target, asked, everything, target
from cortex_cli.gateway import Gateway, GatewayError

FINE, NOT_ASKED, DIFFERENCES = 0, 1, 2
"""Exit codes; the worst that was found is told."""
_STOPPED: Final = frozenset({"Suspended", "ScaledToZero"})
"""Reasons of resources that have no pod to ask, as they were told to."""


@dataclass(frozen=True)
class Verdict:
    """On one resource."""

    target: Target
    word: str
    code: int
    lines: list[str]
    report: dict[str, Any] | None = None

    def show(self) -> None:
        """Prints it."""
        typer.echo(f"{self.target}: {self.word}")
        for line in self.lines:
            typer.echo(f"  {line}")


def doctor(
    resource: Annotated[
        str, typer.Argument(metavar="KIND/NAME | all", help="workflow/NAME, index/NAME, or all.")
    ] = "all",
    namespace: Annotated[
        str | None,
        typer.Option("-n", "--namespace", help="Of the resource (default), or all of this namespace alone."),
    ] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="text or json.")] = "text",
    gateway: GatewayOption = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Compare events, rows and copies. Ends with 0: fine, 1: something could not be asked, 2: differences. It reads
    every event, row and copy of a resource."""
    if output not in ("text", "json"):
        fail(f"-o {output} is not known; use text or json")
    every = resource == "all"
    named = None if every else target(resource, namespace or "default")
    with asked(gateway, data_dir) as asking:
        verdicts = []
        for one in [named] if named else everything(asking, namespace):
            verdicts.append(_examine(asking, one, every))
            if output == "text":
                verdicts[-1].show()
    if output == "json":
        typer.echo(json.dumps([_document(one) for one in verdicts], indent=2, ensure_ascii=False))
    elif not verdicts:
        typer.echo("there is no resource" + (f" in {namespace}" if namespace else ""))
    raise typer.Exit(max((verdict.code for verdict in verdicts), default=FINE))


def verdict(one: Target, report: dict[str, Any]) -> Verdict:
    """What a report says."""
    lines = words.findings(report)
    if words.differs(report):
        lines.append(f"to mend it: cortex state rebuild {one.argument}")
        return Verdict(one, "differs", DIFFERENCES, lines, report)
    if "copy" not in report:
        return Verdict(one, "rows are fine, the copy was not looked at", NOT_ASKED, lines, report)
    return Verdict(one, "fine", FINE, lines, report)


def _examine(gateway: Gateway, one: Target, every: bool) -> Verdict:
    try:
        return verdict(one, gateway.get(one.path("state")))
    except GatewayError as error:
        if every and error.reason in _STOPPED:
            return Verdict(one, f"not asked: it runs no pod ({error.reason})", FINE, [])
        return Verdict(one, "could not be asked", NOT_ASKED, [error.told])


def _document(one: Verdict) -> dict[str, Any]:
    head = {"kind": one.target.kind, "namespace": one.target.namespace, "name": one.target.name, "verdict": one.word}
    return {**head, "report": one.report} if one.report is not None else {**head, "problem": "; ".join(one.lines)}
