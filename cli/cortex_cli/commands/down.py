"""`cortex down`: leaves no process, whatever state the cluster is in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from cortex_cli.commands.common import DEFAULT_DATA_DIR, DataDir, fail

STOP_SECONDS: Final = 60.0


def down(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    delete_data: Annotated[bool, typer.Option("--delete-data", help="Delete all documents, runs and logs.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Stop the local cluster and whatever a killed one left; its data stays."""
    directory = data_dir.absolute()
    if not (directory / "lock").exists():
        typer.echo(f"there is no local cluster in {data_dir}")
        return
    if delete_data and not yes:
        typer.confirm(f"Delete everything in {data_dir}?", abort=True)
    stopped = stop_cluster(directory)
    what = f"stopped {stopped} processes" if stopped else "nothing was running"
    if delete_data:
        left = _delete(directory)
        typer.echo(f"{what}; {data_dir} is deleted" if not left else f"{what}; deleted, but for {', '.join(left)}")
    else:
        typer.echo(f"{what}; the data stays in {data_dir}")


def _delete(directory: Path) -> list[str]:
    """Deletes what a cluster made, and the folder when nothing else is in it; returns what else there is."""
    from cortex_cli.local.launch import CONTENTS

    for path in (directory / name for name in sorted(CONTENTS)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    left = sorted(entry.name for entry in directory.iterdir())
    if not left:
        directory.rmdir()
    return left


def stop_cluster(directory: Path) -> int:
    """Ends every process of the data directory; returns how many there were."""
    from cortex_cli.local import wire
    from cortex_cli.local.leftovers import anything, end_all
    from cortex_cli.local.processes import Processes

    processes = Processes(directory)
    supervisor = _supervisor(directory)
    count = len(processes.records()) + bool(supervisor)
    with contextlib.suppress(wire.NotRunning, ValueError):
        wire.ask(directory, "shutdown")
    if supervisor is not None and not _ended(*supervisor, STOP_SECONDS):
        os.kill(supervisor[0], signal.SIGKILL)
        _ended(*supervisor, 5)
    asyncio.run(end_all(processes))
    if anything(processes):
        fail(f"processes of {directory} are left; see the folder {directory / 'processes'}")
    return count


def _supervisor(directory: Path) -> tuple[int, int] | None:
    """Process id and start time of the live supervisor."""
    from cortex_cli.local.processes import start_time

    try:
        held = json.loads((directory / "supervisor.json").read_text())
    except (OSError, ValueError):
        return None
    return (held["pid"], held["start_time"]) if start_time(held["pid"]) == held["start_time"] else None


def _ended(pid: int, started: int, seconds: float) -> bool:
    from cortex_cli.local.processes import start_time

    deadline = time.monotonic() + seconds
    while start_time(pid) == started:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
