"""Checkpoints of runs in the Lake: LangGraph's saver, one for each run (a shared one would serialise them)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from cortex_workloads.runtime.lake.pool import Connection, Lake

_LOCK: Final = 0x636F727478636B70
_WAIT_SECONDS: Final = 0.1


async def migrate(lake: Lake) -> None:
    """Makes the saver's tables, once; any number of pods may call it at the same time. Raises Unavailable.

    It is not done under `pg_advisory_lock`: CREATE INDEX CONCURRENTLY waits for every statement that is under way, and
    a pod that waits for the lock is one; each would wait for the other.
    """
    while True:
        async with lake.connection() as connection:
            if await _up_to_date(connection) or await _set_up(connection):
                return
        await asyncio.sleep(_WAIT_SECONDS)


def saver(lake: Lake) -> AsyncPostgresSaver:
    """For one run."""
    return AsyncPostgresSaver(lake.pool)


def config(run_id: str) -> RunnableConfig:
    """Where a run's checkpoints are: every run has its own, so that nothing of one is left over for the next."""
    return {"configurable": {"thread_id": run_id, "checkpoint_ns": ""}}


async def latest(of: AsyncPostgresSaver, run_id: str) -> CheckpointTuple | None:
    """A run's last checkpoint."""
    return await of.aget_tuple(config(run_id))


async def forget(connection: Connection, run_ids: Sequence[str]) -> None:
    """Deletes the checkpoints of runs, inside the caller's transaction."""
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
        await connection.execute(f"DELETE FROM {table} WHERE thread_id = ANY(%s)", (list(run_ids),))  # noqa: S608


async def _up_to_date(connection: Connection) -> bool:
    there = await (await connection.execute("SELECT to_regclass('checkpoint_migrations') IS NOT NULL")).fetchone()
    if there is None or not there[0]:
        return False
    newest = await (await connection.execute("SELECT max(v) FROM checkpoint_migrations")).fetchone()
    return newest is not None and newest[0] is not None and newest[0] >= len(AsyncPostgresSaver.MIGRATIONS) - 1


async def _set_up(connection: Connection) -> bool:
    taken = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))).fetchone()
    if taken is None or not taken[0]:
        return False
    try:
        await AsyncPostgresSaver(connection).setup()
    finally:
        if not connection.closed:
            await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
    return True
