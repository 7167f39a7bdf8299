"""Pools of GPU nodes that the platform team names in the release's values, for `spec.gpu.pool`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cortex_kinds.base import DNS_LABEL, Model
from cortex_kinds.gpu import GPU
from cortex_kinds.labels import LabelKey, LabelValue
from pydantic import Field


class GPUPool(Model):
    """Nodes by their labels, and which of their taints are tolerated."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]
    """What `spec.gpu.pool` says."""
    node_selector: Annotated[dict[LabelKey, LabelValue], Field(min_length=1)]
    """Labels that its nodes have."""
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    """As in a pod."""


def pool_of(gpu: GPU, pools: Sequence[GPUPool]) -> GPUPool | None:
    """The pool that is asked for; None when none is, or there is none of that name."""
    return next((pool for pool in pools if pool.name == gpu.pool), None)


def unknown_pool(gpu: GPU | None, pools: Sequence[GPUPool] | None) -> str:
    """That the pool that is asked for is none of the release's, which are named; else empty. `pools` None: whatever is
    asked for is kept."""
    if gpu is None or gpu.pool is None or pools is None or pool_of(gpu, pools):
        return ""
    known = ", ".join(pool.name for pool in pools)
    there = f"there are {known}" if known else "the release names none"
    return f"spec.gpu.pool is {gpu.pool}, which is no pool of this release: {there} (chart value gpuPools)"
