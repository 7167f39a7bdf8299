"""PostgreSQL and Valkey kept running: started or taken over, probed, started again when they end."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cortex_cli.local import postgres, valkey
from cortex_cli.local.backoff import Backoff
from cortex_cli.local.launch import Launch, LaunchError
from cortex_cli.local.processes import Process, Processes, ProcessSpec

log: Final = logging.getLogger("cortex.local.servers")
PROBE_SECONDS: Final = 0.05
GRACE_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Kind:
    """Which server. `prepare` makes what a start needs, `describe` says what an earlier start on a port was."""

    name: str
    title: str
    prepare: Callable[[Path], Launch]
    describe: Callable[[Path, int], Launch]


POSTGRES: Final = Kind("postgres", "PostgreSQL", postgres.prepare, postgres.describe)
VALKEY: Final = Kind("valkey", "Valkey", valkey.prepare, valkey.describe)


@dataclass
class State:
    """How the server is now."""

    ready: bool = False
    reason: str = "Starting"
    message: str = ""
    pid: int = 0
    port: int = 0
    restarts: int = 0


class ServerKeeper:
    """Keeps one server running until it is cancelled. `on_url` is told where it will listen, before it does."""

    def __init__(
        self, kind: Kind, directory: Path, processes: Processes, on_url: Callable[[str], Awaitable[None]]
    ) -> None:
        self.kind = kind
        self.state = State()
        self._directory = directory
        self._processes = processes
        self._on_url = on_url
        self._process: Process | None = None

    async def run(self) -> None:
        """Ends only by cancellation; the server goes on then."""
        backoff = Backoff()
        while True:
            began = time.monotonic()
            try:
                launch = await self._started()
                await self._attend(launch)
            except LaunchError as error:
                self._fail("CannotStart", str(error))
            except Exception as error:
                log.exception("%s", self.kind.title)
                self._fail("InternalError", repr(error))
            await asyncio.sleep(backoff.after(began))
            self.state.restarts += 1

    async def stop(self) -> None:
        """Stops the server, with everything that it was told on disk."""
        if self._process is not None:
            await self._process.stop()
            self._processes.forget(self.kind.name)

    async def _started(self) -> Launch:
        """Where the server that runs now listens."""
        found = await self._adopt()
        if found is None:
            launch = await asyncio.to_thread(self.kind.prepare, self._directory)
            self._process = self._processes.start(_spec(launch))
        else:
            self._process, launch = found
        self.state.pid, self.state.port = self._process.pid, launch.port
        await self._on_url(launch.url)
        return launch

    async def _adopt(self) -> tuple[Process, Launch] | None:
        record = self._processes.record(self.kind.name)
        if record is None:
            return None
        launch = self.kind.describe(self._directory, int(record.details["port"]))
        process = self._processes.adopt(record)
        if process is not None and record.digest != _spec(launch).digest:
            log.info("%s runs with other settings or another version: it is started anew", self.kind.title)
            await process.stop()
            return None
        return (process, launch) if process is not None else None

    async def _attend(self, launch: Launch) -> None:
        """Until the server has ended."""
        process = self._process
        assert process is not None
        while not process.exited.done() and (why := await asyncio.to_thread(launch.probe)):
            self._fail("Starting", why)
            await asyncio.wait([process.exited], timeout=PROBE_SECONDS)
        if not process.exited.done():
            self.state.ready, self.state.reason, self.state.message = True, "Ready", ""
        await asyncio.wait([process.exited])
        self._processes.forget(self.kind.name)
        code = process.exited.result()
        said = self._processes.last_line(self.kind.name)
        self._fail("Ended", f"exit code {'unknown' if code is None else code}; it said last: {said or 'nothing'}")
        log.warning("%s has ended: %s", self.kind.title, self.state.message)
        self._process, self.state.pid = None, 0

    def _fail(self, reason: str, message: str) -> None:
        self.state.ready, self.state.reason, self.state.message = False, reason, message


def _spec(launch: Launch) -> ProcessSpec:
    return ProcessSpec(
        name=launch.name,
        command=launch.command,
        env=launch.env,
        cwd=launch.cwd,
        digest=hashlib.sha256("\0".join(launch.command).encode()).hexdigest(),
        stop_signal=launch.stop_signal,
        grace_seconds=GRACE_SECONDS,
        details={"port": launch.port},
    )
