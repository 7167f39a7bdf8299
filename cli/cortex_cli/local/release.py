"""What this machine decides for all resources."""

from __future__ import annotations

import os
from typing import Final

from cortex_kinds.common import Resources
from cortex_operator.manifests.release import ReleaseSettings

IMAGE: Final = "local"
"""There are no images here: the command of a container runs with this interpreter."""


def local_release() -> ReleaseSettings:
    """Small requests, and as many threads for an ingest Job as there are CPUs."""
    little = Resources(requests={"cpu": "100m", "memory": "128Mi"})
    cpus = str(len(os.sched_getaffinity(0)))
    return ReleaseSettings(
        search_image=IMAGE,
        graph_image=IMAGE,
        search_resources=little,
        graph_resources=little,
        ingest_resources=Resources(requests={"cpu": "100m"}, limits={"cpu": cpus}),
        drain_seconds=5.0,
        gpu_pools=None,
    )
