"""What to change in `spec.gpu` so that a pod gets a node: each proposal is tried on the nodes before it is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from cortex_kinds.gpu import GPU

from cortex_operator.cluster import Object
from cortex_operator.manifests.gpu import (
    MEMORY_LABEL,
    gpu_limits,
    gpu_requirements,
    gpu_resource,
    product_of,
)
from cortex_operator.reconcile.gpus.demand import allocatable
from cortex_operator.reconcile.gpus.fit import lacks
from cortex_operator.reconcile.gpus.holders import Room

_TRIED: Final = 8
"""Values of one field that are tried at most."""
_NAMED: Final = 3
"""Nodes that a proposal names at most."""


def proposals(pod: Object, gpu: GPU, nodes: Sequence[Object], room: Room) -> list[str]:
    """Changes of one field, as `set spec.gpu.memory to 24G to fit l4-0`; the smallest change of each field."""
    fields = (_less_memory(gpu, nodes), _fewer(gpu, nodes, room), _other_products(gpu, nodes))
    return [words for tries in fields if (words := _first(pod, gpu, tries, nodes, room))]


Try = tuple[str, dict[str, Any]]
"""What to do in words, and the fields of `spec.gpu` that change."""


def _first(pod: Object, gpu: GPU, tries: Iterable[Try], nodes: Sequence[Object], room: Room) -> str:
    for words, changes in tries:
        other = _changed(pod, gpu, gpu.model_copy(update=changes))
        if found := [lack.node for lack in (lacks(other, node, room) for node in nodes) if lack.fits]:
            return f"{words} to fit {' or '.join(found[:_NAMED])}"
    return ""


def _less_memory(gpu: GPU, nodes: Sequence[Object]) -> Iterator[Try]:
    if gpu.memory is not None:
        found = {int(text) for node in nodes if (text := _labels(node).get(MEMORY_LABEL, "")).isdecimal()}
        for mebibytes in sorted(found, reverse=True)[:_TRIED]:
            # Rounded down, in the decimal units in which vendors name their GPUs.
            value = f"{max(1, mebibytes * 2**20 // 10**9)}G"
            yield f"set spec.gpu.memory to {value}", {"memory": value}


def _fewer(gpu: GPU, nodes: Sequence[Object], room: Room) -> Iterator[Try]:
    resource = gpu_resource(gpu)
    free = {
        int(allocatable(node).get(resource, 0)) - sum(h.count for h in room.held.get((_name(node), resource), ()))
        for node in nodes
    }
    for count in sorted((n for n in free if 0 < n < gpu.count), reverse=True)[:_TRIED]:
        yield f"set spec.gpu.count to {count}", {"count": count}


def _other_products(gpu: GPU, nodes: Sequence[Object]) -> Iterator[Try]:
    found = {product_of(gpu_resource(gpu.model_copy(update={"partition": None})), _labels(node)) for node in nodes}
    for product in sorted(found - {"", *gpu.products})[:_TRIED]:
        words = f"add {product} to spec.gpu.products" if gpu.products else f"set spec.gpu.products to [{product}]"
        yield words, {"products": [*gpu.products, product]}


def _changed(pod: Object, before: GPU, after: GPU) -> Object:
    """The pod as it would be made for another `spec.gpu`."""
    spec = pod["spec"]
    first, *others = spec["containers"]
    resources = first.get("resources") or {}
    kept = {
        kind: {name: n for name, n in (resources.get(kind) or {}).items() if name != gpu_resource(before)}
        for kind in ("limits", "requests")
    }
    changed = {**first, "resources": {**kept, "limits": {**kept["limits"], **gpu_limits(after)}}}
    return {**pod, "spec": {**spec, "containers": [changed, *others], "affinity": _affinity(spec, before, after)}}


def _affinity(spec: dict[str, Any], before: GPU, after: GPU) -> dict[str, Any]:
    affinity = spec.get("affinity") or {}
    node = affinity.get("nodeAffinity") or {}
    required = node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = [_term(term, before, after) for term in required.get("nodeSelectorTerms") or [{}]]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {**affinity, "nodeAffinity": {**node, **(required if all(terms) else {})}}


def _term(term: dict[str, Any], before: GPU, after: GPU) -> dict[str, Any]:
    old = gpu_requirements(before)
    kept = [each for each in term.get("matchExpressions") or () if each not in old]
    expressions = [*kept, *gpu_requirements(after)]
    return {**term, "matchExpressions": expressions} if expressions else {}


def _labels(node: Object) -> dict[str, str]:
    return node["metadata"].get("labels") or {}


def _name(node: Object) -> str:
    return str(node["metadata"]["name"])
