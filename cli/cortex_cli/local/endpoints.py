"""EndpointSlices, one for each pod of each Service, with the ports that the pod has here; pure."""

from __future__ import annotations

from typing import Final

from cortex_operator.cluster.port import Object

from cortex_cli.local.pod_status import is_ready, is_terminating
from cortex_cli.local.ports import LOOPBACK
from cortex_cli.local.templates import named_ports, reference

SERVICE_LABEL: Final = "kubernetes.io/service-name"


def slices(service: Object, pods: list[Object]) -> list[Object]:
    """The slices of a Service. `pods`: those of its namespace."""
    selector = service["spec"].get("selector") or {}
    return [_slice(service, pod) for pod in pods if selector and _matches(selector, pod) and _runs(pod)]


def _matches(selector: dict[str, str], pod: Object) -> bool:
    labels = pod["metadata"].get("labels", {})
    return all(labels.get(name) == value for name, value in selector.items())


def _runs(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")


def _slice(service: Object, pod: Object) -> Object:
    meta = service["metadata"]
    local = named_ports(pod)
    ports = []
    for port in service["spec"].get("ports", []):
        number = local.get(str(port.get("targetPort", port["port"])))
        if number is not None:
            ports.append({"name": port.get("name", ""), "port": number, "protocol": "TCP"})
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{meta['name']}-{pod['metadata']['name']}",
            "namespace": meta["namespace"],
            "labels": {**meta.get("labels", {}), SERVICE_LABEL: meta["name"]},
            "ownerReferences": [reference(service)],
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [
            {
                "addresses": [LOOPBACK],
                "conditions": {"ready": is_ready(pod), "serving": is_ready(pod), "terminating": is_terminating(pod)},
                "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": meta["namespace"]},
                "nodeName": "local",
            }
        ],
    }
