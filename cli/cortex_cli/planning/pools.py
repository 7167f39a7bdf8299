"""The release's GPU pools, as far as pods and the operator's own words tell of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from cortex_kinds.conditions import ConditionType, Reason, get_condition
from cortex_kinds.gpu import GPU
from cortex_operator.cluster import Object
from cortex_operator.manifests.gpupool import GPUPool
from cortex_operator.manifests.placement import job_scheduling
from cortex_operator.preview.report import ResourcePlan
from cortex_operator.preview.revision import Resource
from cortex_operator.preview.run import model_of
from cortex_operator.preview.standin import stand_in
from pydantic import ValidationError

_UNKNOWN_POOL: Final = Reason.UNKNOWN_GPU_POOL.value


def as_told(plan: ResourcePlan, live: Object | None) -> ResourcePlan:
    """Which pools there are the operator said, where it refused the one that is asked for: a rehearsal knows none."""
    told = _refusal(model_of(live))
    blocked = (replace(each, message=told) if each.reason == _UNKNOWN_POOL else each for each in plan.blocked)
    return replace(plan, blocked=tuple(blocked)) if told else plan


def _refusal(live: Resource | None) -> str:
    """What the operator said of a pool that the release has not got; empty: nothing, or it was of another spec."""
    if live is None or live.status.observed_generation != live.metadata.generation:
        return ""
    found = get_condition(live.status.conditions, ConditionType.STALLED)
    return found.message if found is not None and found.reason == _UNKNOWN_POOL else ""


def pools_of(pod: Object | None, live: Resource | None, proposed: Resource | None) -> Iterator[GPUPool]:
    """The pool that the pods have, as its nodes are told by them; of another one only its name is known, if it was not
    refused already."""
    known = _pool(pod, live.spec.gpu, live) if pod is not None and live is not None and live.spec.gpu else None
    if known is not None:
        yield known
    settled = {known.name} if known is not None else {_asked(live)} if _refusal(live) else set()
    yield from map(stand_in, sorted({_asked(live), _asked(proposed)} - settled - {""}))


def _asked(resource: Resource | None) -> str:
    gpu = resource.spec.gpu if resource is not None else None
    return (gpu.pool or "") if gpu is not None else ""


def _pool(pod: Object, gpu: GPU, live: Resource) -> GPUPool | None:
    if gpu.pool is None:
        return None
    without = job_scheduling(live.spec.placement, gpu, ())
    required = [each for each in _required(pod) if each not in _required(without)]
    tolerations = [each for each in pod.get("tolerations") or () if each not in without.get("tolerations", ())]
    try:
        selector = {each["key"]: each["values"][0] for each in required if each["operator"] == "In"}
        return GPUPool(name=gpu.pool, node_selector=selector, tolerations=tolerations)
    except (ValidationError, KeyError, IndexError):
        return None  # the operator has not made the pods of this pool yet


def _required(pod: Object) -> list[Any]:
    """What the labels of nodes must say, of the first of the alternatives."""
    affinity = (pod.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or [{}]
    return list(terms[0].get("matchExpressions") or ())
