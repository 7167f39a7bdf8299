"""KEDA's part in how many pods a resource has: what is there of it, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cortex_kinds.conditions import ConditionType, Reason

from cortex_operator.cluster import Cluster, Object, ObjectKey
from cortex_operator.manifests.autoscaler import HPA, autoscaler_kind
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.optional import SCALED_OBJECT
from cortex_operator.manifests.release import ReleaseSettings
from cortex_operator.manifests.scaledobject import KEDA_PREFIX, missing_source
from cortex_operator.reconcile.finding import Finding, false, unknown
from cortex_operator.reconcile.observe import find
from cortex_operator.reconcile.pods import condition

_TYPE: Final = ConditionType.AUTOSCALING_READY


@dataclass(frozen=True)
class Keda:
    """What KEDA has to do with a resource."""

    missing: str = ""
    """What it lacks for the resource's metrics; empty also when it is not asked for."""
    scaled_object: Object | None = None
    """Where there is to be one."""
    autoscaler: Object | None = None
    """The HorizontalPodAutoscaler that KEDA made of it."""
    lingering: str = ""
    """Which of the two must still go before somebody else may say how many pods there are."""

    @property
    def waits(self) -> str:
        """That it is waited for, as a sentence; empty when it is not."""
        return self.lingering and (
            f"waits for {self.lingering} to go, which may still say how many pods there are; KEDA lets it go: see that "
            "its operator runs"
        )


async def find_keda(cluster: Cluster, part: Part, name: str, release: ReleaseSettings) -> Keda:
    """What there is for the Deployment `name`. A ScaledObject that is deleted stays until KEDA has let it go, and what
    KEDA made of it is collected after that."""
    namespace, spec = part.resource.metadata.namespace, part.resource.spec
    served = SCALED_OBJECT in release.served
    scaled = await find(cluster, ObjectKey(*SCALED_OBJECT, namespace, name)) if served else None
    made = await find(cluster, ObjectKey(*HPA, namespace, f"{KEDA_PREFIX}{name}"))
    missing = missing_source(spec.autoscaling, release)
    if autoscaler_kind(spec, release) == SCALED_OBJECT:
        return Keda(missing, scaled, made)
    if scaled is not None and not _belongs(scaled, part.resource.kind, part.resource.metadata.name):
        return Keda(missing)
    there = [scaled, made if made is not None and _belongs(made, SCALED_OBJECT[1], name) else None]
    return Keda(missing, lingering=" and ".join(f"{o['kind']} {o['metadata']['name']}" for o in there if o))


def _belongs(obj: Object, kind: str, name: str) -> bool:
    owners = obj["metadata"].get("ownerReferences") or ()
    return any((owner["kind"], owner["name"]) == (kind, name) for owner in owners)


def keda_finding(keda: Keda) -> Finding | None:
    """AutoscalingReady as far as KEDA decides it; None: its HorizontalPodAutoscaler tells."""
    ready, paused = (condition(keda.scaled_object or {}, type) for type in ("Ready", "Paused"))
    if ready.get("status") == "False":
        return false(_TYPE, ready.get("reason") or Reason.PENDING, f"KEDA says: {ready.get('message', '')}")
    if paused.get("status") == "True":
        return false(_TYPE, paused.get("reason") or Reason.PENDING, f"KEDA is paused: {paused.get('message', '')}")
    if ready.get("status") != "True":
        message = "KEDA has not looked at the ScaledObject yet (see that its operator runs)"
        return unknown(_TYPE, Reason.PENDING, f"{message}: the number of pods stays as it is")
    return None
