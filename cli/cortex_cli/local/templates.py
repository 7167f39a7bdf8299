"""Pods from the templates of Deployments and Jobs; pure. Shields the controllers from what a pod needs to run here.

Containers that share an address cannot share port numbers: every pod gets ports of its own, except host ports.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any, Final

from cortex_operator.cluster.port import Object, ObjectKey

FINALIZER: Final = "cortex.datapunk.io/process"
"""Keeps a deleted pod in the store, as Terminating, until its process has ended."""
PORTS: Final = "cortex.datapunk.io/local-ports"
"""Annotation of a pod: JSON, the template's port number -> the port here."""
HASH: Final = "pod-template-hash"
PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")


def template_hash(template: Object) -> str:
    """Ten hex digits that change when the template does."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def pod_of(owner: Object, name: str, labels: dict[str, str], take_port: Callable[[], int]) -> Object:
    """A pod of the owner's template. `labels` are added to the template's."""
    template = copy.deepcopy(owner["spec"]["template"])
    meta = template.get("metadata") or {}
    ports = _localize(template["spec"], take_port)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": {**(meta.get("labels") or {}), **labels},
            "annotations": {**(meta.get("annotations") or {}), PORTS: json.dumps(ports)},
            "ownerReferences": [reference(owner)],
            "finalizers": [FINALIZER],
        },
        "spec": template["spec"],
    }


def reference(owner: Object) -> Object:
    """The controller reference to an owner."""
    meta = owner["metadata"]
    about = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"]}
    return {**about, "controller": True, "blockOwnerDeletion": True}


def adopted(pod: Object, owner: Object) -> Object:
    """A pod of an earlier supervisor, given to the owner that is in the store now."""
    meta = {**pod["metadata"], "ownerReferences": [reference(owner)]}
    return {**pod, "metadata": meta}


def owner_key(pod: Object) -> ObjectKey | None:
    """The controller of a pod."""
    for owner in pod["metadata"].get("ownerReferences", []):
        if owner.get("controller"):
            return ObjectKey(owner["apiVersion"], owner["kind"], pod["metadata"]["namespace"], owner["name"])
    return None


def named_ports(pod: Object) -> dict[str, int]:
    """The pod's ports here, by their name and by the template's number."""
    ports = {
        port["name"]: int(port["containerPort"])
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
        if "name" in port
    }
    return ports | dict(json.loads(pod["metadata"].get("annotations", {}).get(PORTS, "{}")))


def _localize(spec: Object, take_port: Callable[[], int]) -> dict[str, int]:
    moved: dict[str, int] = {}
    for container in spec["containers"]:
        for port in container.get("ports", []):
            number = port["containerPort"]
            moved[str(number)] = port["containerPort"] = port.get("hostPort") or take_port()
        for probe in (container[name] for name in PROBES if name in container):
            for ask in (probe[name] for name in ("grpc", "httpGet", "tcpSocket") if name in probe):
                ask["port"] = _moved(ask["port"], moved)
    return moved


def _moved(port: Any, moved: dict[str, int]) -> Any:
    return moved.get(str(port), port)
