"""`python -m cortex_cli.local.supervisor DATA_DIR`: the one background process of a local cluster.

Started by `cortex up`. Ends everything on SIGTERM, SIGINT or the verb `shutdown`; when it is killed, what it started
goes on and the next supervisor takes it over.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from cortex_operator.cluster.memory import MemoryCluster
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.manifests.release import ReleaseSettings
from cortex_operator.operator import run_operator
from cortex_operator.reconcile import Timing

from cortex_cli.local.api import Api
from cortex_cli.local.applied import Sources
from cortex_cli.local.kubelet import Node
from cortex_cli.local.launch import data_directory, private_directory, write_private
from cortex_cli.local.leftovers import end_strays
from cortex_cli.local.overview import rows
from cortex_cli.local.plan import plan_local
from cortex_cli.local.processes import Processes, start_time
from cortex_cli.local.release import local_release
from cortex_cli.local.runner import Runner
from cortex_cli.local.servers import POSTGRES, VALKEY, ServerKeeper
from cortex_cli.local.store import Store

log: Final = logging.getLogger("cortex.local.supervisor")
DRAIN_SECONDS: Final = 5.0
SECRETS_SECONDS: Final = 5.0
"""How long the operator waits for the servers' Secrets; then it says itself that they are missing."""
TIMING: Final = Timing(moving=0.5, idle=2.0, missing=1.0, details=0.5)
"""Quicker than in a cluster: to look again costs nothing here."""


class Supervisor:
    """Everything that runs in the background, over one data directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stop = asyncio.Event()
        self._release = local_release()
        self._cluster = MemoryCluster()
        self._processes = Processes(directory)
        self._store = Store(self._cluster, directory / "applied.json")
        volumes = private_directory(directory / "volumes")
        node = Node(self._cluster, self._processes, volumes, directory / "catalogue.json")
        self._runner = Runner(self._cluster, node)
        self._keepers = [
            ServerKeeper(kind, directory / kind.name, self._processes, partial(self._store.set_url, kind.name))
            for kind in (POSTGRES, VALKEY)
        ]

    async def run(self) -> None:
        """Until it is told to stop; nothing that it started runs then."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        end_strays(self._processes)
        api = Api(self._cluster, self._store, self._status, self._plan, self._stop.set)
        async with api.serve(self._directory):
            work = [asyncio.create_task(work) for work in (*(k.run() for k in self._keepers), self._runner.run())]
            await self._store.restore()
            operator = asyncio.create_task(self._operate(self._release))
            stopped = asyncio.create_task(self._stop.wait())
            done, _ = await asyncio.wait({*work, operator, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                log.critical("a part of the supervisor has ended", exc_info=task.exception())
            self._stop.set()
            await self._end(work, operator)

    async def _operate(self, release: ReleaseSettings) -> None:
        dataplane = GrpcDataPlane(self._cluster)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SECRETS_SECONDS):
                await self._store.urls_known.wait()
        try:
            await run_operator(self._cluster, dataplane, release, stop=self._stop, timing=TIMING)
        finally:
            await dataplane.close()

    async def _end(self, work: list[asyncio.Task[None]], operator: asyncio.Task[None]) -> None:
        """Pods first, as they use the servers."""
        await asyncio.wait([operator], timeout=DRAIN_SECONDS)
        for task in (*work, operator):
            task.cancel()
        await asyncio.gather(*work, operator, return_exceptions=True)
        await self._runner.close()
        await asyncio.gather(*(keeper.stop() for keeper in self._keepers))

    async def _plan(self, sources: Sources) -> Any:
        return await plan_local(self._cluster, self._store, self._release, sources)

    async def _status(self) -> Any:
        found = [asdict(row) for row in await rows(self._cluster, self._keepers, self._processes)]
        parts = [row for row in found if not row["pod"]]
        return {
            "pid": os.getpid(),
            "ready": all(row["ready"] for row in parts),
            "final": _hopeless(parts),
            "gateway": self._store.gateway.to_json(),
            "rows": found,
        }


def _hopeless(parts: list[dict[str, Any]]) -> bool:
    """Whether waiting longer changes nothing."""
    settled = all(row["final"] or row["ready"] for row in parts)
    return any(row["fatal"] for row in parts) or (settled and any(row["final"] for row in parts))


@contextlib.contextmanager
def sole(directory: Path) -> Iterator[None]:
    """Holds the data directory. Raises BlockingIOError when another supervisor does."""
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.set_inheritable(lock.fileno(), False)
        write_private(
            directory / "supervisor.json", json.dumps({"pid": os.getpid(), "start_time": start_time(os.getpid())})
        )
        yield


def main() -> int:
    """The process."""
    directory = data_directory(Path(sys.argv[1]).absolute())
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    try:
        with sole(directory):
            asyncio.run(Supervisor(directory).run())
    except BlockingIOError:
        log.error("another supervisor already runs on %s", directory)
        return 1
    return 0


if __name__ == "__main__":
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    sys.exit(main())
