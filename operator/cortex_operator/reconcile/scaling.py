"""How many pods a resource is to have, from its spec and what runs. Pure.

With autoscaling the number belongs to the autoscaler. The Deployment's `replicas` must then not be part of
what the operator applies; but a field that its only owner leaves out falls back to its default, 1. So the number that
runs is given to another field manager first (hand over), and only then left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cortex_kinds.common import CommonSpec

from cortex_operator.cluster import Conflict, Invalid, Object, ObjectKey
from cortex_operator.cluster.admission import check_controller
from cortex_operator.cluster.owned import may_own
from cortex_operator.manifests.deployment import BEFORE_SUSPENSION
from cortex_operator.manifests.scale import Scale

AUTOSCALED: Final = "cortex-operator-autoscaled"
"""The field manager that the number of pods is handed over to; it gives way to the HorizontalPodAutoscaler's."""


def scale(spec: CommonSpec, deployment: Object | None, *, lingering: bool = False) -> Scale:
    """What the objects are to say. A Deployment that is not there is made with its first pods; the autoscaler comes
    when they are handed over. `lingering`: an autoscaler of before is still there."""
    if lingering and deployment is not None:
        return Scale(_live(deployment), told=False, waits=True)
    if spec.suspend:
        return Scale(0, before=_live(deployment) or _before(deployment))
    if spec.autoscaling is None or deployment is None:
        return Scale(spec.desired_replicas)
    return Scale(_live(deployment) or _resumed(spec, deployment), told=False)


def hand_over(deployment: Object | None, objects: Iterable[Object], scale: Scale) -> Object | None:
    """What the field manager AUTOSCALED applies before the operator leaves the number of pods out of `objects`; None:
    nothing. A Deployment at zero is raised so, too: an autoscaler would leave it there. One of somebody else's is not
    touched."""
    if scale.told or scale.waits or deployment is None or not _is_ours(deployment, objects):
        return None
    if _live(deployment) and not may_own(deployment, "spec", "replicas"):
        return None
    # With the resourceVersion: an older number than an autoscaler's must never be written.
    kept = {name: deployment["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": kept,
        "spec": {"replicas": scale.running},
    }


def stopped(objects: tuple[Object, ...], scale: Scale) -> tuple[Object, ...]:
    """What is applied of a suspended resource whose pods could not be placed as it asks: nothing of the Deployment
    before it is told zero, as a template that lacks the pool's labels would replace the pods that run yet."""
    return objects if scale.told else tuple(obj for obj in objects if obj["kind"] != "Deployment")


def _is_ours(deployment: Object, objects: Iterable[Object]) -> bool:
    made = next(obj for obj in objects if obj["kind"] == "Deployment")
    try:
        check_controller(ObjectKey.of(made), made, deployment)
    except (Invalid, Conflict):
        return False
    return True


def _live(deployment: Object | None) -> int:
    return int(deployment["spec"].get("replicas", 1)) if deployment is not None else 0


def _before(deployment: Object | None) -> int:
    """What ran before the resource was suspended; 0: nothing, or somebody took the annotation away."""
    noted = ((deployment or {}).get("metadata", {}).get("annotations") or {}).get(BEFORE_SUSPENSION, "")
    return int(noted) if noted.isdecimal() and len(noted) < 5 else 0


def _resumed(spec: CommonSpec, deployment: Object) -> int:
    return min(max(_before(deployment), spec.desired_replicas), spec.most_replicas)
