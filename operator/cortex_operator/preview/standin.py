"""A GPU pool of which only the name is known: it stands in for one of the release's where these cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cortex_kinds.gpu import GPU

from cortex_operator.manifests.gpupool import GPUPool, pool_of

_NODES: Final = "cortex.datapunk.io/nodes-of-unknown-pool"
"""A label that no node has."""


def stand_in(name: str) -> GPUPool:
    """A pool without nodes."""
    return GPUPool(name=name, node_selector={_NODES: name})


def unknown_nodes(gpu: GPU | None, pools: Sequence[GPUPool] | None) -> str:
    """That nobody knows which nodes are asked for; else empty."""
    pool = pool_of(gpu, pools or ()) if gpu is not None else None
    if pool is None or _NODES not in pool.node_selector:
        return ""
    return f"the release's GPU pools are not known, so neither is which nodes pool {pool.name} has"
