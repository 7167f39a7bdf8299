"""Whether a Deployment's pods are those of its present template, all of them and ready. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cortex_kinds.conditions import Reason

from cortex_operator.cluster import Object
from cortex_operator.reconcile.pods import condition, culprit, unready
from cortex_operator.reconcile.words import every, share


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


_PODS_REMEDY: Final = "correct what that names in the spec, or see the quotas and policies of the namespace"


def rollout(deployment: Object | None, pods: tuple[Object, ...], now: datetime) -> Rollout:
    """Reads the Deployment's own status; names the culprit among the pods when it is not done."""
    if deployment is None:
        return Rollout(False, False, Reason.APPLYING, "the Deployment is not made yet")
    status = deployment.get("status") or {}
    wanted = deployment["spec"].get("replicas", 1)
    total, updated, ready = (status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas"))
    image = deployment["spec"]["template"]["spec"]["containers"][0].get("image", "")
    seen = _is_seen(deployment)
    if seen and total == updated == wanted and ready >= wanted:
        return Rollout(True, False, *_done(wanted), replicas=total, ready=ready, image=image)
    fresh = min(ready, updated) if seen else 0
    reason, message = _why_not_done(deployment, pods, now) or (
        Reason.PODS_STARTING,
        f"{share(fresh, wanted, 'pod of this generation is', 'pods of this generation are')} ready",
    )
    return Rollout(False, seen and _gave_up(deployment), reason, message, replicas=total, ready=ready, image=image)


def paused(deployment: Object) -> str:
    """That somebody paused the Deployment, where it holds up pods of its present template, and what ends that; else
    empty. Scaling is not held up by it."""
    meta, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
    if not spec.get("paused") or not _is_seen(deployment):
        return ""
    total, updated = status.get("replicas", 0), status.get("updatedReplicas", 0)
    if total == updated and (total > 0 or spec.get("replicas", 1) == 0):
        return ""
    command = f"kubectl -n {meta['namespace']} rollout resume deployment/{meta['name']}"
    return f"Deployment {meta['name']} is paused (spec.paused): {command}"


def _is_seen(deployment: Object) -> bool:
    """Whether its status is about its present spec."""
    seen = (deployment.get("status") or {}).get("observedGeneration", 0)
    return bool(seen >= deployment["metadata"].get("generation", 0))


def _why_not_done(deployment: Object, pods: tuple[Object, ...], now: datetime) -> tuple[Reason, str] | None:
    # First: what pods of the former template suffer from may be mended by what the pause holds up.
    if held := paused(deployment):
        return Reason.ROLLOUT_PAUSED, held
    if (blamed := culprit(pods)) is not None:
        return (Reason.POD_FAILING if blamed.container else Reason.UNSCHEDULABLE), str(blamed)
    refused = condition(deployment, "ReplicaFailure")
    if refused.get("status") == "True":
        said = refused.get("message") or refused.get("reason") or "no reason given"
        return Reason.PODS_REFUSED, f"the cluster makes no pod: {said}; {_PODS_REMEDY}"
    if waits := unready(pods, now):
        return Reason.PODS_STARTING, waits
    return None


def _done(wanted: int) -> tuple[Reason, str]:
    if wanted == 0:
        return Reason.SCALED_TO_ZERO, "spec.replicas is 0: nothing serves until it is raised"
    return Reason.ROLLED_OUT, f"{every(wanted, 'pod is', 'pods are')} ready"


def _gave_up(deployment: Object) -> bool:
    return condition(deployment, "Progressing").get("reason") == "ProgressDeadlineExceeded"
