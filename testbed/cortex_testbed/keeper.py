"""Runs a cluster and ends it when the process that owns it is gone, or when it is told to.

    python -m cortex_testbed.keeper DIRECTORY [OWNER_PID]

Writes to DIRECTORY.json {"kind", "url": kubeconfig, "pools": whether it has fake nodes, "says": which cluster and why,
"keeper": its process id, "start_time"} when all answers, or {"error"}. Without an owner it stays until SIGTERM.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

from cortex_cli.local.launch import write_private
from cortex_cli.local.processes import start_time

from cortex_testbed import binaries, choice, crds, pools
from cortex_testbed.components import PlaneOptions
from cortex_testbed.errors import BedError
from cortex_testbed.existing import Existing
from cortex_testbed.kind import Kind
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.plane import Plane
from cortex_testbed.processes import Processes, end_with_parent

STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
CLUSTERS: Final[dict[str, Callable[[Path], Plane | Kind | Existing]]] = {
    choice.PLANE: lambda directory: Plane(directory, PlaneOptions(our_kinds=True)),
    choice.KIND: Kind,
    choice.EXISTING: Existing,
}


def report_file(directory: Path) -> Path:
    """The file that says how it stands."""
    return directory.with_name(directory.name + ".json")


def main(directory: Path, owner: int | None) -> None:
    """Returns when the cluster is gone."""
    for number in STOPS:
        signal.signal(number, _stop)
    end_with_parent(signal.SIGTERM)  # until all answers: a start that nobody waits for is given up
    try:
        chosen = choice.choose()
        if missing := binaries.missing(chosen.needs):
            raise BedError(f"{', '.join(missing)} must be built first: make binaries (minutes, once)")
        _keep(chosen, CLUSTERS[chosen.kind](directory), owner)
    except BedError as error:
        report(directory, error=str(error))


def report(directory: Path, **content: object) -> None:
    """Replaces what the file says."""
    write_private(report_file(directory), json.dumps(content))


def _keep(chosen: choice.Choice, cluster: Plane | Kind | Existing, owner: int | None) -> None:
    directory = cluster.directory
    kwok = Processes(directory / "pools")
    watched = [os.pidfd_open(owner)] if owner else []
    try:
        cluster.start()
        if not isinstance(cluster, Plane):
            crds.install(Kubectl(cluster.kubeconfig))
        if not isinstance(cluster, Existing):
            kwok = pools.start(cluster.kubeconfig, kwok.directory)
        mine = [kwok, *([cluster.processes] if isinstance(cluster, Plane) else [])]
        me = {"keeper": os.getpid(), "start_time": start_time(os.getpid())}
        end_with_parent(0)
        report(
            directory, kind=chosen.kind, url=str(cluster.kubeconfig), pools=bool(kwok.names()), says=str(chosen), **me
        )
        select.select([*watched, *(pidfd for some in mine for pidfd in some.pidfds())], [], [])
        if ended := next((name for some in mine if (name := some.ended())), ""):
            raise BedError(f"{ended} ended by itself; its log is below {directory}")
    finally:
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)
        kwok.stop("kwok", 0.5)
        cluster.stop()
        for name in ("etcd", "pki"):
            shutil.rmtree(directory / name, ignore_errors=True)


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
