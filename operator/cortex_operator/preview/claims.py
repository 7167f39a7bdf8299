"""Which pods with GPUs a plan has to place, and which go. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from cortex_kinds.gpu import GPU

from cortex_operator.cluster import Object
from cortex_operator.dataplane import ResourceKey
from cortex_operator.preview.gpus import Claim, pod_of, wants_gpus
from cortex_operator.preview.pods import PodsChange
from cortex_operator.reconcile.placement import is_placed
from cortex_operator.reconcile.pods import is_terminating


def claim(
    key: ResourceKey,
    gpu: GPU | None,
    deployments: tuple[Object | None, Object | None],
    change: PodsChange,
    pods: Sequence[Object],
) -> Claim | None:
    """By the Deployment before and after, and the pods that there are; None: neither has to do with GPUs. Pods that
    have no node yet are to be placed like new ones."""
    before, after = deployments
    there = [pod for pod in pods if not is_terminating(pod) and is_placed(pod)]
    if after is None or not wants_gpus(after):
        gone = before is not None and wants_gpus(before)
        return Claim(key, None, pod_of(before), 0, leaving=tuple(there)) if gone and before is not None else None
    kept = [] if change.replaced else there[: change.after]
    count = change.after - len(kept)
    beside = min(change.surge, count) if change.replaced and not change.unavailable else 0
    leaving = tuple(pod for pod in there if pod not in kept)
    return Claim(key, gpu, pod_of(after), count, beside, leaving)
