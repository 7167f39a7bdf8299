"""What must hold of a resource when nothing more happens, whatever happened before; the same for every test of faults.

Its children equal those of a fresh deployment of its final spec; every object that the operator manages has a living
owner; its status is about its generation; and the operator writes nothing any more. Kinds are found by discovery and
children by their label, so that an owned kind that is new is covered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cortex_kinds.base import API_VERSION
from cortex_kube.client import Api
from cortex_operator.cluster import Cluster, Object, ObjectKey
from cortex_operator.operator import OWNED_LABELS

Kinds = Iterable[tuple[str, str]]
"""apiVersion and kind."""

_SERVERS_OWN: Final = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
    "managedFields", "namespace",
)  # fmt: skip
_ALLOCATED: Final = ("clusterIP", "clusterIPs")
_HISTORY: Final = ("deployment.kubernetes.io/revision", "cortex.datapunk.io/replicas-before-suspension")
"""Annotations that tell what was before, on purpose."""
_NOT_OURS: Final = frozenset({"Pod", "ReplicaSet", "EndpointSlice", "Endpoints", "ControllerRevision", "Event"})
"""Kinds that controllers make of our objects and label as these are."""


@dataclass(frozen=True)
class State:
    """A resource and what is there of it, without what every deployment has anew."""

    children: Mapping[str, Object]
    """By kind and name."""
    conditions: Mapping[str, str]
    """Type -> status and reason."""
    current: bool
    """Whether status and conditions are about this generation."""


@dataclass(frozen=True)
class Collection:
    """Where an API server has the objects of a kind."""

    api_version: str
    kind: str
    plural: str

    async def of(self, api: Api, namespace: str) -> list[Object]:
        """Those of a namespace that the operator made."""
        root = "api" if self.api_version == "v1" else "apis"
        selector = ",".join(f"{name}={value}" for name, value in OWNED_LABELS.items())
        path = f"/{root}/{self.api_version}/namespaces/{namespace}/{self.plural}"
        found = await api.request("GET", path, query={"labelSelector": selector})
        return [{**obj, "apiVersion": self.api_version, "kind": self.kind} for obj in found["items"]]


async def discovered(api: Api) -> list[Collection]:
    """All namespaced kinds of an API server that can be listed, but those that controllers make."""
    groups = await api.request("GET", "/apis")
    versions = ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups["groups"])]
    found = []
    for version in versions:
        resources = await api.request("GET", f"/{'api' if version == 'v1' else 'apis'}/{version}")
        found += [
            Collection(version, each["kind"], each["name"])
            for each in resources["resources"]
            if each["namespaced"] and "list" in each["verbs"] and "/" not in each["name"]
        ]
    return [each for each in found if each.kind not in _NOT_OURS]


async def managed(cluster: Cluster, kinds: Kinds, namespace: str) -> list[Object]:
    """All objects of a namespace that the operator made."""
    found = []
    for api_version, kind in kinds:
        if kind not in _NOT_OURS:
            found += await cluster.list(api_version, kind, namespace=namespace, labels=dict(OWNED_LABELS))
    return found


def orphans(objects: Iterable[Object], resources: Iterable[Object]) -> list[str]:
    """Which of the managed objects no living resource owns."""
    living = {resource["metadata"]["uid"] for resource in resources}
    return [str(ObjectKey.of(obj)) for obj in objects if not living & {owner["uid"] for owner in _owners(obj)}]


def state(resource: Object, objects: Iterable[Object], *, exact: bool = False) -> State:
    """Of a resource, and of those of the managed objects that are its. `exact`: the reference is of the same name and
    namespace; else digests are not compared, as what they are of has these in it."""
    meta, status = resource["metadata"], resource.get("status", {})
    mine = [obj for obj in objects if meta["uid"] in {owner["uid"] for owner in _owners(obj)}]
    found = status.get("conditions", ())
    about = {status.get("observedGeneration"), *(c.get("observedGeneration") for c in found)}
    return State(
        children=_children(mine, meta["namespace"], meta["name"], exact),
        conditions={c["type"]: f"{c['status']} {c['reason']}" for c in found},
        current=about == {meta["generation"]},
    )


def differences(found: State, fresh: State) -> list[str]:
    """How a resource is not as a fresh one; a line each."""
    lines = [] if found.current else ["the status is not about the newest generation"]
    lines += list(_unlike(dict(found.conditions), dict(fresh.conditions), "conditions"))
    return lines + list(_unlike(dict(found.children), dict(fresh.children), ""))


def _owners(obj: Object) -> list[dict[str, Any]]:
    return [owner for owner in obj["metadata"].get("ownerReferences") or () if owner["apiVersion"] == API_VERSION]


def _children(objects: list[Object], namespace: str, name: str, exact: bool) -> dict[str, Object]:
    scaled = any(obj["kind"] in ("HorizontalPodAutoscaler", "ScaledObject") for obj in objects)
    found = {}
    for obj in objects:
        plain = _plain(obj)
        if scaled and obj["kind"] == "Deployment":
            plain["spec"].pop("replicas", None)
        text = json.dumps(_undigested(plain) if not exact else plain, sort_keys=True)
        plain = json.loads(text.replace(namespace, "NAMESPACE").replace(name, "NAME"))
        found[f"{plain['kind']} {plain['metadata']['name']}"] = plain
    return found


def _plain(obj: Object) -> Object:
    meta = {key: value for key, value in obj["metadata"].items() if key not in _SERVERS_OWN}
    meta["annotations"] = {k: v for k, v in meta.get("annotations", {}).items() if k not in _HISTORY}
    meta["ownerReferences"] = [{k: v for k, v in owner.items() if k != "uid"} for owner in meta["ownerReferences"]]
    plain = {**{key: value for key, value in obj.items() if key != "status"}, "metadata": meta}
    if obj["kind"] == "Service" and obj["spec"].get("clusterIP") != "None":
        plain["spec"] = {key: value for key, value in obj["spec"].items() if key not in _ALLOCATED}
    return plain


def _undigested(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: "DIGEST" if k.endswith("-digest") else _undigested(inner) for k, inner in value.items()}
    return [_undigested(inner) for inner in value] if isinstance(value, list) else value


def _unlike(found: Any, fresh: Any, where: str) -> Iterable[str]:
    if isinstance(found, dict) and isinstance(fresh, dict):
        for key in sorted({*found, *fresh}):
            yield from _unlike(found.get(key), fresh.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(found, list) and isinstance(fresh, list) and len(found) == len(fresh):
        for at, (one, other) in enumerate(zip(found, fresh, strict=True)):
            yield from _unlike(one, other, f"{where}[{at}]")
    elif found != fresh:
        yield f"{where}: {found!r:.200}, of a fresh one {fresh!r:.200}"
