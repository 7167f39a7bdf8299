"""The Services of a resource: one address for clients that balance nothing, and a headless one that lists the pods."""

from __future__ import annotations

from typing import Any

from cortex_operator.manifests.labels import Part


def service(part: Part, name: str, port: int) -> dict[str, Any]:
    """A ClusterIP Service with the gRPC port."""
    return _service(part, name, {"grpc": port}, {"type": "ClusterIP"})


def headless_service(part: Part, name: str, ports: dict[str, int]) -> dict[str, Any]:
    """A headless Service: its DNS name has the ready pods, its EndpointSlices all of them with their named ports."""
    return _service(part, name, ports, {"type": "ClusterIP", "clusterIP": "None", "publishNotReadyAddresses": False})


def _service(part: Part, name: str, ports: dict[str, int], spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": part.metadata(name),
        "spec": {**spec, "selector": part.selector, "ports": [_port(*named) for named in ports.items()]},
    }


def _port(name: str, number: int) -> dict[str, Any]:
    protocol = "http" if name == "metrics" else "grpc"
    return {"name": name, "port": number, "targetPort": name, "protocol": "TCP", "appProtocol": protocol}
