"""Whether a Deployment's pods are those of its present template, all of them and ready. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cortex_kinds.conditions import Reason

from cortex_operator.cluster import Object
from cortex_operator.reconcile.pods import culprit


@dataclass(frozen=True)
class Rollout:
    """Where a Deployment is. `done`: this generation's pods serve and no other is left."""

    done: bool
    failed: bool
    reason: Reason
    message: str
    replicas: int = 0
    ready: int = 0
    image: str = ""


def rollout(deployment: Object | None, pods: Iterable[Object]) -> Rollout:
    """Reads the Deployment's own status; names the culprit among the pods when it is not done."""
    if deployment is None:
        return Rollout(False, False, Reason.APPLYING, "the Deployment is not made yet")
    status = deployment.get("status") or {}
    wanted = deployment["spec"].get("replicas", 1)
    total, updated, ready = (status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas"))
    image = deployment["spec"]["template"]["spec"]["containers"][0].get("image", "")
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    if seen and total == updated == wanted and ready >= wanted:
        return Rollout(True, False, *_done(wanted), replicas=total, ready=ready, image=image)
    blamed = culprit(pods)
    reason = Reason.POD_FAILING if blamed else Reason.PODS_STARTING
    fresh = min(ready, updated) if seen else 0
    message = str(blamed) if blamed else f"{fresh} of {wanted} pods of this generation are ready"
    return Rollout(False, seen and _gave_up(deployment), reason, message, replicas=total, ready=ready, image=image)


def _done(wanted: int) -> tuple[Reason, str]:
    if wanted == 0:
        return Reason.SCALED_TO_ZERO, "spec.replicas is 0: nothing serves until it is raised"
    return Reason.ROLLED_OUT, f"all {wanted} pods are ready"


def _gave_up(deployment: Object) -> bool:
    return any(
        c.get("type") == "Progressing" and c.get("reason") == "ProgressDeadlineExceeded"
        for c in (deployment.get("status") or {}).get("conditions") or ()
    )
