"""`python -m cortex_workloads.graph`: serves a CortexWorkflow until SIGTERM."""

from __future__ import annotations

from cortex_workloads.graph.pod import Pod
from cortex_workloads.runtime.server import run
from cortex_workloads.runtime.settings import GraphSettings


async def serve(settings: GraphSettings) -> None:
    """Serves until SIGTERM. Raises CortexError."""
    async with Pod(settings) as pod:
        await pod.wait()


if __name__ == "__main__":
    run(serve, GraphSettings)
