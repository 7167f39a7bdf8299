"""GPUs that a plan takes and gives back, and whether the nodes have room for all of it together. Pure.

The pods of the whole plan compete here, and what the plan frees is free: first the pods that must run beside those that
they replace, then the rest, those that ask for most before others. The scheduler may place them otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from cortex_kinds.gpu import GPU

from cortex_operator.cluster import Object
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests.gpu import is_gpu
from cortex_operator.reconcile.gpus import Room, shortage
from cortex_operator.reconcile.gpus.demand import allocatable, demand
from cortex_operator.reconcile.gpus.fit import lacks, unforeseen


class Fits(StrEnum):
    """Whether there is room now."""

    YES = "Yes"
    NO = "No"
    UNKNOWN = "Unknown"
    """The nodes cannot be read, or something else decides too; the message says what."""
    NOT_NEEDED = "NotNeeded"
    """No pod is to be placed."""


@dataclass(frozen=True)
class GPUChange:
    """GPUs of one resource name that the pods of a resource have, all together. `pool`: that of `spec.gpu.pool`."""

    resource: str
    pool: str
    before: int
    after: int


@dataclass(frozen=True)
class Claim:
    """Pods that are to be placed: `count` like `pod`, of which `beside` before any of `leaving` has ended."""

    key: ResourceKey
    gpu: GPU | None
    pod: Object
    count: int
    beside: int = 0
    leaving: tuple[Object, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Whether the pods of a claim have room, and where or why not."""

    fits: Fits
    message: str


def gpu_changes(before: Object | None, after: Object | None, pools: tuple[str, str]) -> tuple[GPUChange, ...]:
    """By the Deployment before and after, and the pools that it names. Another pool is another line."""
    lines = {
        (resource, pool): [0, 0] for pool, each in zip(pools, (before, after), strict=True) for resource in _gpus(each)
    }
    for at, (pool, each) in enumerate(zip(pools, (before, after), strict=True)):
        for resource, count in _gpus(each).items():
            lines[resource, pool][at] = count
    return tuple(GPUChange(*line, *counts) for line, counts in sorted(lines.items()))


def pod_of(deployment: Object) -> Object:
    """A pod as the Deployment makes it."""
    template, meta = deployment["spec"]["template"], deployment["metadata"]
    named = {**(template.get("metadata") or {}), "name": meta["name"], "namespace": meta.get("namespace", "")}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": template["spec"]}


def wants_gpus(deployment: Object | None) -> bool:
    """Whether its pods ask for GPUs."""
    return deployment is not None and any(map(is_gpu, demand(pod_of(deployment))))


def verdicts(claims: Sequence[Claim], room: Room) -> dict[ResourceKey, Verdict]:
    """One for each claim."""
    placed: dict[ResourceKey, list[str]] = {claim.key: [] for claim in claims}
    refused: dict[ResourceKey, str] = {}
    for claim in _largest_first(claims):
        room = _place(claim, claim.beside, room, placed, refused)
    leaving = {_place_of(pod) for claim in claims for pod in claim.leaving}
    room = replace(room, pods=[pod for pod in room.pods if _place_of(pod) not in leaving])
    for claim in _largest_first(claims):
        room = _place(claim, claim.count - claim.beside, room, placed, refused)
    return {
        claim.key: _verdict(claim, placed[claim.key], refused.get(claim.key, ""), unforeseen(claim.pod, room))
        for claim in claims
    }


def _place(
    claim: Claim, count: int, room: Room, placed: dict[ResourceKey, list[str]], refused: dict[ResourceKey, str]
) -> Room:
    for _ in range(count):
        fits = [found.node for found in (lacks(claim.pod, node, room) for node in room.nodes) if found.fits]
        if not fits or claim.key in refused:
            refused.setdefault(claim.key, shortage(claim.pod, claim.gpu, room).message)
            break
        node = min(fits, key=lambda name: (_free(name, room, claim.pod), name))
        placed[claim.key].append(node)
        room = replace(room, pods=[*room.pods, _placed(claim.pod, node, len(placed[claim.key]))])
    return room


def _placed(pod: Object, node: str, number: int) -> Object:
    metadata = {**pod["metadata"], "name": f"{pod['metadata']['name']} (planned {number})"}
    return {**pod, "metadata": metadata, "spec": {**pod["spec"], "nodeName": node}}


def _free(name: str, room: Room, pod: Object) -> int:
    """GPUs that the node has left: the fullest node is taken, so that room for large pods stays."""
    node = next(node for node in room.nodes if node["metadata"]["name"] == name)
    wanted = [resource for resource in demand(pod) if is_gpu(resource)]
    taken = room.used.get(name, {})
    return int(sum(allocatable(node).get(resource, 0) - taken.get(resource, 0) for resource in wanted))


def _verdict(claim: Claim, nodes: list[str], why: str, open: list[str]) -> Verdict:
    if not claim.count:
        return Verdict(Fits.NOT_NEEDED, "no pod is to be placed")
    if why:
        return Verdict(
            Fits.NO, f"{len(nodes)} of {claim.count} pods fit; the next one {why}" if claim.count > 1 else why
        )
    where = ", ".join(f"{node} ({count})" for node, count in sorted(Counter(nodes).items()))
    if open:
        return Verdict(Fits.UNKNOWN, f"{where} may have room; what decides there is {' and '.join(open)}")
    return Verdict(Fits.YES, f"fits now on {where}")


def _largest_first(claims: Iterable[Claim]) -> list[Claim]:
    return sorted(claims, key=lambda claim: -sum(n for name, n in demand(claim.pod).items() if is_gpu(name)))


def _gpus(deployment: Object | None) -> dict[str, int]:
    if deployment is None:
        return {}
    count = int(deployment["spec"].get("replicas", 1))
    each = {name: int(amount) for name, amount in demand(pod_of(deployment)).items() if is_gpu(name)}
    return {name: amount * count for name, amount in each.items() if amount}


def _place_of(pod: Object) -> tuple[str, str]:
    return pod["metadata"].get("namespace", ""), pod["metadata"]["name"]
