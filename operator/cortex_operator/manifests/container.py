"""The one container of a pod: environment from the settings class that the container reads, probes, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cortex_kinds.base import parse_quantity
from cortex_kinds.common import CommonSpec, Resources
from cortex_workloads.runtime.settings import Settings, env_name

from cortex_operator.manifests.environment import env_sources, env_variables
from cortex_operator.manifests.release import ReleaseSettings
from cortex_operator.manifests.storage import Volume
from cortex_operator.manifests.trust import trust_mounts

PRE_STOP_SECONDS: Final = 5


@dataclass(frozen=True)
class Container:
    """What tells the containers apart."""

    name: str
    """search, graph or ingest."""
    image: str
    """The release's; the resource's own wins."""
    module: str
    """Run by `python -m`."""
    settings: Settings
    """What the container will read."""
    ports: dict[str, int]
    """Port name -> number; with a port `grpc` the container is probed."""
    resources: Resources
    """The service's default."""
    secret_env: dict[str, tuple[str, str]]
    """Environment variable -> (Secret, key)."""
    volumes: tuple[Volume, ...] = ()
    """What is mounted beside what every pod has."""

    def plain_env(self) -> dict[str, str]:
        """The settings that are neither secret nor about one pod or its ports."""
        return self.settings.to_env()

    def build(
        self,
        spec: CommonSpec,
        release: ReleaseSettings,
        *,
        config_map: str = "",
        extra_limits: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The container as it stands in a pod template. `config_map`: which one holds the plain settings; without it
        they stand in the container itself. `extra_limits`: beside those of the resources."""
        probes = _probes(self.ports["grpc"]) if "grpc" in self.ports else {}
        sources = env_sources(spec, config_map)
        return {
            "name": self.name,
            "image": spec.image or self.image,
            "imagePullPolicy": release.image_pull_policy,
            "command": ["python", "-m", self.module],
            **({"envFrom": sources} if sources else {}),
            "env": [*self._env({} if config_map else self.plain_env()), *env_variables(spec)],
            "ports": [{"name": n, "containerPort": p, "protocol": "TCP"} for n, p in self.ports.items()],
            "resources": _resources(spec.resources, self.resources, extra_limits or {}),
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
            # The last lines of the log become the message of a container that failed: the operator shows them.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own emptyDir
                *trust_mounts(spec.ca_bundle),
                *(volume.mount for volume in self.volumes),
            ],
            **probes,
        }

    def _env(self, settings: dict[str, str]) -> list[dict[str, Any]]:
        plain = {**settings, **{env_name(f"port_{n}"): str(p) for n, p in self.ports.items()}}
        return [
            {"name": env_name("pod"), "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            *(
                {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
                for name, (secret, key) in sorted(self.secret_env.items())
            ),
            *({"name": name, "value": value} for name, value in sorted(plain.items())),
        ]


def secrets_of(spec: CommonSpec) -> dict[str, tuple[str, str]]:
    """Environment variable -> (Secret, key) of the Lake and the shared state."""
    return {
        env_name("lake_dsn"): (spec.lake.secret_ref.name, "dsn"),
        env_name("state_url"): (spec.state.secret_ref.name, "url"),
    }


def _resources(own: Resources, default: Resources, extra: Mapping[str, str]) -> dict[str, Any]:
    """What the resource says wins, each quantity by itself; a default gives way: no request is above its limit."""
    limits = {**default.limits, **own.limits}
    requests = {**default.requests, **own.requests}
    for name in requests.keys() & limits.keys():
        if parse_quantity(requests[name]) > parse_quantity(limits[name]):
            if name in own.limits:
                requests[name] = limits[name]
            else:
                limits[name] = requests[name]
    return {"requests": requests, "limits": {**limits, **extra}}


def _probes(port: int) -> dict[str, Any]:
    return {
        "startupProbe": _probe(port, "liveness", period=5, failures=120),
        "readinessProbe": _probe(port, "", period=5, failures=2),
        "livenessProbe": _probe(port, "liveness", period=10, failures=3),
        # Clients need a moment to hear that the pod goes, before it stops to take calls.
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
    }


def _probe(port: int, service: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "grpc": {"port": port, "service": service},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }
