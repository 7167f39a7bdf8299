"""`cortex gpus`: the ledger of a cluster's GPUs. It reads Nodes and Pods, and changes nothing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from cortex_kube.client import Api
from cortex_operator.cluster import EVERYWHERE
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.cluster.refusals import USER
from cortex_operator.reconcile.gpus import POOL_LABELS, Holder, Ledger, Supply, Waiting, ledger

from cortex_cli.commands.common import fail
from cortex_cli.commands.refused import refused
from cortex_cli.commands.table import print_table

_Objects = list[dict[str, Any]]


def gpus(
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
    kubeconfig: Annotated[
        Path | None, typer.Option("--kubeconfig", help="KUBECONFIG, or ~/.kube/config, without it.")
    ] = None,
    context: Annotated[str | None, typer.Option("--context", help="The kubeconfig's current one without it.")] = None,
    pool_label: Annotated[
        list[str] | None, typer.Option("--pool-label", help="Label that names a node's pool; before those of clouds.")
    ] = None,
) -> None:
    """Show who holds the GPUs of the cluster of KUBECONFIG, what is free, and what waits and why."""
    if output not in ("table", "json"):
        fail(f"-o {output} is not known; use table or json")
    with refused("the ledger needs the right to list nodes, and pods of all namespaces"):
        nodes, pods = asyncio.run(_look(kubeconfig, context))
    found = ledger(nodes, pods, (*(pool_label or ()), *POOL_LABELS))
    if output == "json":
        typer.echo(json.dumps(_as_json(found), indent=2))
    else:
        _print(found)


async def _look(kubeconfig: Path | None, context: str | None) -> tuple[_Objects, _Objects]:
    async with await Api.connect(kubeconfig=kubeconfig, context=context, user_agent="cortex") as api:
        cluster = KubernetesCluster(api, asker=USER)
        return await cluster.list("v1", "Node"), await cluster.list("v1", "Pod", namespace=EVERYWHERE)


def _as_json(found: Ledger) -> dict[str, Any]:
    return {
        "nodes": [{**asdict(supply), "free": supply.free} for supply in found.supplies],
        "waiting": [{**asdict(each.holder), "resource": each.resource, "why": each.why} for each in found.waiting],
        "resourceClaims": [asdict(each) for each in found.claimants],
    }


def _print(found: Ledger) -> None:
    if found.supplies:
        print_table(
            ("POOL", "NODE", "GPU", "PRODUCT", "KIND", "CAPACITY", "FREE", "HELD BY"), list(map(_row, found.supplies))
        )
    else:
        typer.echo("no node offers a GPU: is the vendor's device plugin there?")
    if found.waiting:
        typer.echo("")
        print_table(("WAITING", "POD", "GPU", "WHY"), list(map(_waiting_row, found.waiting)))
    if found.claimants:
        typer.echo("\nnot counted above, devices that pods have or want by resource claims (DRA):")
        print_table(("CLAIMED BY", "POD", "CLAIMS"), list(map(_claimant_row, found.claimants)))


def _row(supply: Supply) -> tuple[str, ...]:
    node = supply.node if supply.schedulable else f"{supply.node} (cordoned)"
    held = ", ".join(f"{_name(holder)} ({holder.count})" for holder in supply.holders)
    numbers = (str(supply.capacity), str(max(supply.free, 0)))
    return supply.pool, node, supply.resource, supply.product, supply.kind, *numbers, held


def _waiting_row(waiting: Waiting) -> tuple[str, ...]:
    holder = waiting.holder
    return str(holder), f"{holder.namespace}/{holder.pod}", f"{holder.count} {waiting.resource}", waiting.why


def _claimant_row(holder: Holder) -> tuple[str, ...]:
    return str(holder), f"{holder.namespace}/{holder.pod}", str(holder.count)


def _name(holder: Holder) -> str:
    return str(holder) if holder.kind == "pod" else f"{holder} in {holder.pod}"
