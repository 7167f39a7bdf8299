"""`python -m cortex_workloads.search.ingest`: a Job that embeds what waits for one revision, then ends.

What it did is committed batch by batch: killed, it goes on where it was. Exit code 0: nothing waits any more, or the
revision was superseded; 1: one line on stderr says why.
"""

from __future__ import annotations

import logging

from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.patience import persistently
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.progress import ProgressStream
from cortex_workloads.runtime.server import run
from cortex_workloads.runtime.settings import IngestSettings
from cortex_workloads.search.encoders import Encoders
from cortex_workloads.search.worker import JOB, Worker

_log = logging.getLogger("cortex.ingest")


async def ingest(settings: IngestSettings) -> None:
    """Runs the Job. Raises CortexError."""
    lake = Lake(settings.lake_dsn.get_secret_value(), 3, name=f"cortex-ingest {settings.pod}")
    async with ProgressStream(settings.state_url.get_secret_value()) as state:
        await lake.open()
        try:
            done = await _embed(settings, lake, state)
        finally:
            # Whatever happened: the tasks of an open pool may keep the process from ending.
            await lake.close()
    ended = "nothing waits any more" if done else "the revision is not there any more: superseded"
    _log.info(ended, extra={"revision": settings.revision})


async def _embed(settings: IngestSettings, lake: Lake, state: ProgressStream) -> bool:
    encoders = Encoders(lake, settings.models_directory, settings.embedding_threads, apart=False)
    resource = Resource("CortexIndex", settings.resource_namespace, settings.resource_name)
    worker = Worker(lake, resource, encoders, state, JOB)

    async def work() -> bool:
        await migrate(lake)
        return await worker.drain(settings.revision)

    return await persistently(lake, work)


if __name__ == "__main__":
    run(ingest, IngestSettings)
