"""`cortex plan`: what an apply of manifests would do. It changes nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cortex_cli.commands.common import DEFAULT_DATA_DIR, DataDir, ask, fail, normal
from cortex_cli.validate import check

CHANGES: Final = 2
"""The exit code when something would change."""
_Objects = list[dict[str, Any]]


def plan(
    files: Annotated[
        list[Path], typer.Option("-f", "--file", help="A manifest, a folder of them, or - for stdin; may be repeated.")
    ],
    output: Annotated[str, typer.Option("-o", "--output", help="text or json.")] = "text",
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="Of manifests that name none; the context's without it.")
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option("--kubeconfig", help="KUBECONFIG, or ~/.kube/config, without it.")
    ] = None,
    context: Annotated[str | None, typer.Option("--context", help="The kubeconfig's current one without it.")] = None,
    operator_namespace: Annotated[
        str | None, typer.Option("--operator-namespace", help="Where the operator is; looked for without it.")
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="Ask the local cluster of `cortex up`.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show what an apply would do: objects, pods, GPUs and revisions. Ends with 0: nothing, 2: changes, 1: an error."""
    if output not in ("text", "json"):
        fail(f"-o {output} is not known; use text or json")
    objects = _read(files)
    if local:
        document = ask(data_dir.absolute(), "plan", sources=_by_file(files, objects))
    else:
        document = _of_cluster([obj for _, obj in objects], namespace, (kubeconfig, context), operator_namespace)
    _show(document, output)
    raise typer.Exit(CHANGES if document["changes"] else 0)


def _read(files: list[Path]) -> list[tuple[str, dict[str, Any]]]:
    """File and object. Ends the command with what `cortex validate` says, when it is an error."""
    manifests, problems = check(files)
    errors = [problem for problem in problems if problem.severity == "error"]
    for problem in errors:
        typer.echo(str(problem), err=True)
    nameless = [each for each in manifests if not each.key[3]]
    for each in nameless:
        typer.echo(f"{each.file}:{each.line}: error: metadata.name is missing", err=True)
    if errors or nameless:
        fail("the manifests have mistakes: nothing was planned")
    return [(each.file, normal(each.data)) for each in manifests]


def _by_file(files: list[Path], objects: list[tuple[str, dict[str, Any]]]) -> dict[str, _Objects]:
    """As `cortex up` knows them: by the path that was given."""
    sources: dict[str, _Objects] = {str(file.absolute()): [] for file in files}
    for name, obj in objects:
        origin = next((file for file in files if Path(name).is_relative_to(file)), Path("-"))
        sources[str(origin.absolute())].append(obj)
    return sources


def _of_cluster(
    objects: _Objects, namespace: str | None, access: tuple[Path | None, str | None], operator_namespace: str | None
) -> dict[str, Any]:
    from cortex_operator.preview.settle import Unsettled

    from cortex_cli.commands.refused import refused
    from cortex_cli.planning.cluster import Unreadable

    try:
        with refused("docs/plan.md says which rights a plan needs"):
            return asyncio.run(_ask_cluster(objects, namespace, access, operator_namespace))
    except (Unreadable, Unsettled) as error:
        fail(str(error))


async def _ask_cluster(
    objects: _Objects, namespace: str | None, access: tuple[Path | None, str | None], operator_namespace: str | None
) -> dict[str, Any]:
    from cortex_kube.client import Api
    from cortex_kube.config import namespace_of

    from cortex_cli.planning.cluster import plan_cluster

    kubeconfig, context = access
    default = namespace or namespace_of(kubeconfig, context)
    placed = [_placed(obj, default, given=namespace) for obj in objects]
    async with await Api.connect(kubeconfig=kubeconfig, context=context, user_agent="cortex") as api:
        return (await plan_cluster(api, placed, operator_namespace)).to_json()


def _placed(obj: dict[str, Any], default: str, *, given: str | None) -> dict[str, Any]:
    """In its namespace, as kubectl sees it."""
    if obj["kind"] == "Namespace":
        return obj
    own = obj["metadata"].get("namespace")
    if given and own and own != given:
        fail(f"{obj['kind']} {obj['metadata']['name']} is in namespace {own}, but -n says {given}")
    return {**obj, "metadata": {**obj["metadata"], "namespace": own or default}}


def _show(document: dict[str, Any], output: str) -> None:
    from cortex_cli.planning.text import render

    typer.echo(json.dumps(document, indent=2, ensure_ascii=False) if output == "json" else render(document))
