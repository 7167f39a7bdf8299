"""`cortex orphans`: data in Lakes that belongs to no resource any more, as operators recorded it. It only reads."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from cortex_kube.client import Api
from cortex_operator.cluster import EVERYWHERE
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.cluster.refusals import USER
from cortex_operator.reconcile.deletion.orphans import LABELS, Orphan, read

from cortex_cli.commands.common import DEFAULT_DATA_DIR, DataDir, ask, fail
from cortex_cli.commands.refused import refused
from cortex_cli.commands.table import print_table

_Objects = list[dict[str, Any]]
_COLUMNS: Final = ("KIND", "NAMESPACE", "NAME", "SINCE", "REASON", "MESSAGE")


def orphans(
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="The operator's namespace; all without it.")
    ] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
    local: Annotated[bool, typer.Option("--local", help="Of the local cluster (cortex up).")] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option("--kubeconfig", help="KUBECONFIG, or ~/.kube/config, without it.")
    ] = None,
    context: Annotated[str | None, typer.Option("--context", help="The kubeconfig's current one without it.")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show data in the Lake whose resource is gone: which, since when, why, and what to do."""
    if output not in ("table", "json"):
        fail(f"-o {output} is not known; use table or json")
    maps = _local(data_dir, namespace) if local else _of_cluster(kubeconfig, context, namespace)
    found: list[Orphan] = []
    left_out = 0
    for each in maps:
        records, more = read(each)
        found += records.values()
        left_out += more
    found.sort(key=lambda orphan: orphan.recorded)
    if output == "json":
        typer.echo(json.dumps({"orphans": [asdict(orphan) for orphan in found], "leftOut": left_out}, indent=2))
    else:
        _print(found, left_out)


def _local(data_dir: Path, namespace: str | None) -> _Objects:
    found = ask(data_dir.absolute(), "get", apiVersion="v1", kind="ConfigMap", namespace=namespace)
    return [obj for obj in found if LABELS.items() <= obj["metadata"].get("labels", {}).items()]


def _of_cluster(kubeconfig: Path | None, context: str | None, namespace: str | None) -> _Objects:
    with refused("name the operator's namespace by -n, and have the right to list its ConfigMaps"):
        return asyncio.run(_look(kubeconfig, context, namespace))


async def _look(kubeconfig: Path | None, context: str | None, namespace: str | None) -> _Objects:
    async with await Api.connect(kubeconfig=kubeconfig, context=context, user_agent="cortex") as api:
        cluster = KubernetesCluster(api, asker=USER)
        return await cluster.list("v1", "ConfigMap", namespace=namespace or EVERYWHERE, labels=LABELS)


def _print(found: list[Orphan], left_out: int) -> None:
    if not found:
        typer.echo("no data is known that belongs to no resource")
    else:
        rows = [(o.kind, o.namespace, o.name, o.recorded, o.reason, o.message) for o in found]
        print_table(_COLUMNS, rows)
        typer.echo(f"\nfor example: {found[-1].remedy}")
    if left_out:
        typer.echo(f"{left_out} older records were left out, as there was no room for them")
