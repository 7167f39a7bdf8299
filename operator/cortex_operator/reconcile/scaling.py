"""How many pods a resource is to have, from its spec and what runs. Pure."""

from __future__ import annotations

from cortex_kinds.common import CommonSpec

from cortex_operator.cluster import Object
from cortex_operator.manifests.deployment import BEFORE_SUSPENSION
from cortex_operator.manifests.scale import Scale


def scale(spec: CommonSpec, deployment: Object | None) -> Scale:
    """What the objects are to say."""
    if spec.suspend:
        return Scale(0, before=_live(deployment) or _before(deployment))
    return Scale(spec.desired_replicas)


def _live(deployment: Object | None) -> int:
    return int(deployment["spec"].get("replicas", 1)) if deployment is not None else 0


def _before(deployment: Object | None) -> int:
    """What ran before the resource was suspended; 0: nothing, or somebody took the annotation away."""
    noted = ((deployment or {}).get("metadata", {}).get("annotations") or {}).get(BEFORE_SUSPENSION, "")
    return int(noted) if noted.isdecimal() and len(noted) < 5 else 0
