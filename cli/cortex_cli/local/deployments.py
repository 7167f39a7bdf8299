"""Deployments: so many pods of the newest template, replaced one after the other when the template changes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from cortex_operator.cluster.port import Object
from cortex_operator.reconcile.words import share

from cortex_cli.local.pod_status import container_status, is_ready, is_terminating, now
from cortex_cli.local.templates import HASH, template_hash

DEFAULT_ROLLING: Final = {"maxSurge": 1, "maxUnavailable": 0}


@dataclass(frozen=True)
class Plan:
    """What to do with the pods of a Deployment."""

    create: int
    delete: tuple[Object, ...]


def plan(deployment: Object, pods: list[Object]) -> Plan:
    """What to do next; the rest follows when pods have become ready or have gone."""
    desired = int(deployment["spec"].get("replicas", 1))
    wanted = template_hash(deployment["spec"]["template"])
    live = [pod for pod in pods if not is_terminating(pod)]
    new = [pod for pod in live if pod["metadata"]["labels"].get(HASH) == wanted]
    old = [pod for pod in live if pod["metadata"]["labels"].get(HASH) != wanted]
    if deployment["spec"].get("strategy", {}).get("type") == "Recreate":
        return _recreate(desired, new, old, gone=len(live) == len(pods))
    return _roll(desired, new, old, deployment["spec"].get("strategy", {}).get("rollingUpdate") or {})


def _recreate(desired: int, new: list[Object], old: list[Object], gone: bool) -> Plan:
    create = max(0, desired - len(new)) if gone and not old else 0
    return Plan(create, (*old, *_surplus(new, len(new) - desired)))


def _roll(desired: int, new: list[Object], old: list[Object], rolling: dict[str, Any]) -> Plan:
    rolling = DEFAULT_ROLLING | rolling
    surge = _share(rolling["maxSurge"], desired, math.ceil)
    unavailable = _share(rolling["maxUnavailable"], desired, math.floor)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    create = max(0, min(desired - len(new), desired + surge - len(new) - len(old)))
    idle = [pod for pod in old if not is_ready(pod)]
    serving = [pod for pod in old if is_ready(pod)]
    spare = sum(map(is_ready, new)) + len(serving) - (desired - unavailable)
    # A template that never becomes ready must not cost the pods that serve, nor may idle ones of it stay in the way.
    return Plan(create, (*idle, *_surplus(serving, min(spare, len(serving))), *_surplus(new, len(new) - desired)))


def _surplus(pods: list[Object], count: int) -> list[Object]:
    """The `count` pods that are missed least: first those that are not ready, then the youngest."""
    ranked = sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"], reverse=True)
    return sorted(ranked, key=is_ready)[: max(0, count)]


def _share(value: int | str, desired: int, rounded: Any) -> int:
    return int(rounded(desired * float(value.rstrip("%")) / 100)) if isinstance(value, str) else int(value)


def status(deployment: Object, pods: list[Object]) -> Object:
    """The status of the Deployment."""
    live = [pod for pod in pods if not is_terminating(pod)]
    wanted = template_hash(deployment["spec"]["template"])
    updated = [pod for pod in live if pod["metadata"]["labels"].get(HASH) == wanted]
    desired = int(deployment["spec"].get("replicas", 1))
    ready = sum(map(is_ready, live))
    complete = len(updated) == desired and ready >= desired and len(live) == desired
    newest = share(len(updated), desired, "pod is", "pods are")
    said = f"{share(ready, desired, 'pod is', 'pods are')} ready"
    before = deployment.get("status", {})
    return {
        "observedGeneration": deployment["metadata"].get("generation", 1),
        "replicas": len(live),
        "updatedReplicas": len(updated),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(0, desired - ready),
        "conditions": [
            _condition(
                before, "Available", ready >= desired,
                ("MinimumReplicasAvailable", said),
                ("MinimumReplicasUnavailable", _blame(live) or said),
            ),
            _condition(
                before, "Progressing", True,
                ("NewReplicaSetAvailable", "all pods are of the newest template") if complete
                else ("ReplicaSetUpdated", f"{newest} of the newest template"),
                ("", ""),
            ),
        ],
    }  # fmt: skip


def _blame(pods: list[Object]) -> str:
    """Which pod is not ready, and why."""
    for pod in pods:
        waiting = container_status(pod).get("state", {}).get("waiting", {})
        if "message" in waiting:
            return f"pod {pod['metadata']['name']}: {waiting['reason']}: {waiting['message']}"
    return ""


def _condition(before: Object, type_: str, true: bool, good: tuple[str, str], bad: tuple[str, str]) -> Object:
    truth = "True" if true else "False"
    reason, message = good if true else bad
    last = next((c for c in before.get("conditions", []) if c["type"] == type_), None)
    since = last["lastTransitionTime"] if last and last["status"] == truth else now()
    return {"type": type_, "status": truth, "reason": reason, "message": message, "lastTransitionTime": since}
