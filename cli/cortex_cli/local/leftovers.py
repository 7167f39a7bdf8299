"""What a supervisor left behind when it was killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from cortex_cli.local.postgres import processes_in
from cortex_cli.local.processes import Process, Processes

SERVERS = ("postgres", "valkey")


def end_strays(processes: Processes) -> None:
    """Kills what was started without a record: nobody can say what it was for."""
    for pid in processes.strays():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


async def end_all(processes: Processes) -> list[str]:
    """Ends every process that has a record, pods before servers, then strays; returns the names."""
    records = processes.records()
    for servers in (False, True):
        mine = [record for record in records if (record.name in SERVERS) == servers]
        adopted = [process for record in mine if (process := processes.adopt(record))]
        await asyncio.gather(*(_end(processes, process) for process in adopted))
    end_strays(processes)
    return [record.name for record in records]


def anything(processes: Processes) -> bool:
    """Whether something of the data directory still runs."""
    data = processes.logs.parent / "postgres" / "data"
    return bool(processes.records() or processes.strays() or (data.exists() and processes_in(data)))


async def _end(processes: Processes, process: Process) -> None:
    await process.stop()
    processes.forget(process.record.name)
