"""The gateway as objects of the store: the one part of an installation that belongs to no resource."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from cortex_operator.cluster.port import Object

NAMESPACE: Final = "cortex-system"
NAME: Final = "datapunk-cortex-api"
STATE_SECRET: Final = "cortex-state"  # noqa: S105 - a name
DRAIN_SECONDS: Final = 5
POLICIES_FILE: Final = PurePosixPath("/etc/cortex/policies/policies.yaml")
"""A key of the ConfigMap `datapunk-cortex-api-policies`, as in a release; there is none until somebody applies it."""


@dataclass(frozen=True)
class GatewayOptions:
    """Where the gateway listens."""

    http_port: int = 8001
    grpc_port: int = 50051
    insecure_listen: bool = False

    def to_json(self) -> dict[str, Any]:
        """As kept between two supervisors."""
        return asdict(self)


def deployment(options: GatewayOptions) -> Object:
    """The Deployment. Its ports are those that were asked for, so it is stopped before a new one starts."""
    labels = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "datapunk-cortex"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app.kubernetes.io/name": NAME}},
            "strategy": {"type": "Recreate"},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [_container(options)],
                    "terminationGracePeriodSeconds": DRAIN_SECONDS + 5,
                    "volumes": [{"name": "policies", "configMap": {"name": f"{NAME}-policies", "optional": True}}],
                },
            },
        },
    }


def _container(options: GatewayOptions) -> Object:
    ready = {"httpGet": {"path": "/readyz", "port": options.http_port}, "periodSeconds": 2, "timeoutSeconds": 2}
    alive = {"httpGet": {"path": "/livez", "port": options.http_port}, "periodSeconds": 10, "timeoutSeconds": 5}
    return {
        "name": "gateway",
        "command": ["python", "-m", "cortex_workloads.gateway"],
        "ports": [
            {"name": "http", "containerPort": options.http_port, "hostPort": options.http_port},
            {"name": "grpc", "containerPort": options.grpc_port, "hostPort": options.grpc_port},
            {"name": "metrics", "containerPort": 9090},
        ],
        "env": _environment(options),
        "volumeMounts": [{"name": "policies", "mountPath": POLICIES_FILE.parent.as_posix(), "readOnly": True}],
        "startupProbe": {**ready, "failureThreshold": 60},
        "readinessProbe": ready,
        "livenessProbe": alive,
    }


def _environment(options: GatewayOptions) -> list[Object]:
    env: list[Object] = [
        {"name": "CORTEX_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "CORTEX_STATE_URL", "valueFrom": {"secretKeyRef": {"name": STATE_SECRET, "key": "url"}}},
        {"name": "CORTEX_DRAIN_SECONDS", "value": str(DRAIN_SECONDS)},
        {"name": "CORTEX_POLICIES_FILE", "value": POLICIES_FILE.as_posix()},
    ]
    if options.insecure_listen:
        env += [
            {"name": "CORTEX_LISTEN_HOST", "value": "0.0.0.0"},  # noqa: S104 - asked for by --insecure-listen
            {"name": "CORTEX_INSECURE_LISTEN", "value": "true"},
        ]
    return env
