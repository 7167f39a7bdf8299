"""Which events concern which resources."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

from cortex_kinds.base import API_VERSION

from cortex_operator.cluster import Event
from cortex_operator.dataplane import ResourceKey
from cortex_operator.engine import Source
from cortex_operator.manifests.labels import INDEX_LABEL, MANAGED, WORKFLOW_LABEL
from cortex_operator.manifests.optional import OPTIONAL, Kind
from cortex_operator.reconcile.uses import Uses

OWNED: Final = (
    ("apps/v1", "Deployment"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("v1", "ConfigMap"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("batch/v1", "Job"),
    ("v1", "Pod"),
)
"""Kinds whose objects belong to a resource, by their labels or their owner."""

_LISTED_BY: Final = {
    "Pod": "app.kubernetes.io/instance",
    "ResourceClaimTemplate": "app.kubernetes.io/instance",
    "Job": INDEX_LABEL,
}

_KINDS: Final = {INDEX_LABEL: "CortexIndex", WORKFLOW_LABEL: "CortexWorkflow"}


def sources(served: Collection[Kind] = (), uses: Uses | None = None) -> list[Source[ResourceKey]]:
    """What the engine watches; of the optional kinds those that are `served`: a watch of another one would end the
    operator. `uses` learns from it who uses what; one per engine."""
    uses = uses or Uses()
    owned = (*OWNED, *(kind for kind in OPTIONAL if kind in served))
    return [
        # An own write may bring what somebody else wrote before, and be all that is heard of it after a gap; and who
        # uses an index hears of its status from what the operator itself wrote.
        Source(API_VERSION, "CortexIndex", uses.of_index, echo=lambda own: (*uses.concerned(own), *behind(own))),
        Source(API_VERSION, "CortexWorkflow", uses.of_workflow, echo=lambda own: (*uses.named(own), *behind(own))),
        *(Source(api, kind, of_owned, MANAGED, _LISTED_BY.get(kind, "")) for api, kind in owned),
        Source("discovery.k8s.io/v1", "EndpointSlice", of_slice, MANAGED, "kubernetes.io/service-name"),
    ]


def behind(event: Event) -> Iterator[ResourceKey]:
    """The resource, when its status is about an older spec than it has."""
    obj = event.object
    if (obj.get("status") or {}).get("observedGeneration") != obj["metadata"].get("generation"):
        yield ResourceKey(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])


def of_slice(event: Event) -> Iterator[ResourceKey]:
    """The resource whose pods it lists, by the labels that it has from their Service; none as long as it is empty."""
    if event.object.get("endpoints"):
        yield from of_owned(event)


def of_owned(event: Event) -> Iterator[ResourceKey]:
    """The resource that an object belongs to: by its labels, or by its owner when somebody took the labels away. An
    owner is what anybody wrote: only one of our kinds counts."""
    meta = event.object["metadata"]
    names = {(kind, meta.get("labels", {}).get(label)) for label, kind in _KINDS.items()}
    owners = {(o["kind"], o["name"]) for o in meta.get("ownerReferences", ()) if _is_ours(o)}
    for kind, name in sorted((kind, name) for kind, name in names | owners if name):
        yield ResourceKey(kind, meta["namespace"], name)


def _is_ours(owner: dict[str, Any]) -> bool:
    return owner["apiVersion"] == API_VERSION and owner["kind"] in _KINDS.values()
