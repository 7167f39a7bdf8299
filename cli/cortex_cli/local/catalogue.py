"""The catalogue file: what the gateway and the workloads know of the cluster without an API server."""

from __future__ import annotations

import json
from pathlib import Path

from cortex_kinds.base import API_VERSION
from cortex_operator.cluster.port import Cluster


async def write(cluster: Cluster, path: Path) -> None:
    """Replaces the file, atomically, when what it says has changed."""
    items = [item for kind in ("CortexIndex", "CortexWorkflow") for item in await cluster.list(API_VERSION, kind)]
    slices = await cluster.list("discovery.k8s.io/v1", "EndpointSlice")
    text = json.dumps({"items": items, "endpointSlices": slices}, sort_keys=True)
    _replace(path, text)


def _replace(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)
