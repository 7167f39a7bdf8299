"""`cortex state rebuild`: makes again what is not as its events say."""

from __future__ import annotations

import typer

from cortex_cli.commands.common import DEFAULT_DATA_DIR, DataDir
from cortex_cli.commands.state.asking import GatewayOption, NamespaceOption, ResourceArgument, asked, target
from cortex_cli.commands.state.doctor import verdict


def rebuild(
    resource: ResourceArgument,
    namespace: NamespaceOption = "default",
    gateway: GatewayOption = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Make rows that differ from their events again, and every copy anew; then examine them. Documents, vectors and
    checkpoints stay as they are. Ends with 0: fine, 1: it could not be done, 2: differences are left."""
    one = target(resource, namespace)
    with asked(gateway, data_dir) as asking:
        before = asking.get(one.path("state"))
        for row in before["rows"]:
            typer.echo(f"row of {row['aggregate']}: {row['message']}")
        if not before["rows"]:
            typer.echo("no row differs from its events")
        typer.echo("beginning every copy in the shared state anew; reads go to the Lake meanwhile")
        after = verdict(one, asking.post(one.path("state/rebuild"), {}))
    typer.echo("")
    after.show()
    raise typer.Exit(after.code)
