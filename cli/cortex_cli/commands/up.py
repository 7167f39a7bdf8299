"""`cortex up`: validates, starts or finds the supervisor, applies, waits until all is Ready."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final

import typer

from cortex_cli.commands.common import DEFAULT_DATA_DIR, DataDir, Files, ask, fail, read_sources

ENFORCED: Final = frozenset(
    {
        "CortexIndex",
        "CortexWorkflow",
        "Secret",
        "ConfigMap",
        "PersistentVolumeClaim",
        "Deployment",
        "Job",
        "Service",
        "Namespace",
    }
)
POLL_SECONDS: Final = 0.15

Port = Annotated[int | None, typer.Option(min=1, max=65535)]


def up(
    files: Files = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    http_port: Annotated[int | None, typer.Option(min=1, max=65535, help="REST; 8001 at first.")] = None,
    grpc_port: Annotated[int | None, typer.Option(min=1, max=65535, help="gRPC; 50051 at first.")] = None,
    insecure_listen: Annotated[
        bool | None,
        typer.Option("--insecure-listen/--loopback-only", help="Let the whole network in: there is no authentication."),
    ] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, and stop everything on Ctrl-C.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait until all is Ready.")] = 120.0,
) -> None:
    """Start the local cluster and apply manifests; without -f those of the last time.

    What came from the same path before and is gone from it is deleted; of an object in several paths what was given
    last holds. Nothing that runs is restarted without need.
    """
    from cortex_cli.commands import progress
    from cortex_cli.commands.start import check_ports, ensure_supervisor

    sources = read_sources(files or [])
    directory = data_dir.absolute()
    given = {"http_port": http_port, "grpc_port": grpc_port, "insecure_listen": insecure_listen}
    options = {name: value for name, value in given.items() if value is not None}
    check_ports(directory, options)
    ensure_supervisor(directory)
    with _until_interrupted(directory, foreground) as interrupts:
        _report(ask(directory, "apply", sources=sources, gateway=options), sources)
        state = progress.follow(directory, timeout)
        if not state["ready"]:
            progress.explain(state)
            raise typer.Exit(1)
        progress.welcome(state, data_dir, _indexes(sources))
        while foreground and not interrupts:
            time.sleep(1)
            ask(directory, "status")


def _indexes(sources: dict[str, Any]) -> list[str]:
    """NAMESPACE/NAME of the indexes that stand in the files."""
    found = [obj for objects in sources.values() for obj in objects if obj["kind"] == "CortexIndex"]
    return [f"{obj['metadata'].get('namespace') or 'default'}/{obj['metadata']['name']}" for obj in found]


def _report(results: dict[str, str], sources: dict[str, Any]) -> None:
    for objects in sources.values():
        for obj in objects:
            if obj["kind"] not in ENFORCED:
                typer.echo(f"{obj['kind']} {obj['metadata']['name']}: stored; it has no effect in the local cluster")
    for key, result in results.items():
        if result in ("Created", "Changed", "Deleted", "Deleting"):
            typer.echo(f"{key}: {result.lower()}")
    refused = {key: result for key, result in results.items() if result.startswith("Refused")}
    if refused:
        fail("; ".join(f"{key}: {result}" for key, result in refused.items()))


@contextlib.contextmanager
def _until_interrupted(directory: Path, foreground: bool) -> Iterator[list[int]]:
    """In the foreground Ctrl-C and SIGTERM stop the cluster, as anything else that ends the command does. Gives the
    signals that came."""
    from cortex_cli.commands.down import stop_cluster

    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Python drops an exception that meets a finalizer; the list tells of it all the same.
        came.append(number)
        raise KeyboardInterrupt

    if foreground:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interrupt)
    try:
        yield came
    except KeyboardInterrupt:
        if not foreground:
            typer.echo("the local cluster goes on in the background; see: cortex status")
            raise typer.Exit(130) from None
        typer.echo("stopping")
    finally:
        if foreground:
            stop_cluster(directory)
