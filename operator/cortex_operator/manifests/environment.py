"""What `spec.env`, `spec.envFrom` and `spec.caBundle` make of a container's environment."""

from __future__ import annotations

from typing import Any

from cortex_kinds.common import CommonSpec
from cortex_kinds.environment import EnvVar

from cortex_operator.manifests.trust import trust_env


def env_sources(spec: CommonSpec, config_map: str) -> list[dict[str, Any]]:
    """The container's `envFrom`. Ours (`config_map`, if there is one) is the last: the last one wins."""
    ours = [{"configMapRef": {"name": config_map}}] if config_map else []
    return [*(source.to_manifest() for source in spec.env_from or ()), *ours]


def env_variables(spec: CommonSpec) -> list[dict[str, Any]]:
    """What stands in the container's `env` behind our own settings. A variable of the resource's wins over one that
    `caBundle` sets."""
    own = [_variable(variable) for variable in spec.env or ()]
    names = {variable["name"] for variable in own}
    trusted = [{"name": n, "value": v} for n, v in trust_env(spec.ca_bundle).items() if n not in names]
    return [*trusted, *own]


def _variable(variable: EnvVar) -> dict[str, Any]:
    """As the API server keeps it, so that what is there is seen to be what was asked for."""
    manifest = variable.to_manifest()
    source = manifest.get("valueFrom", {})
    if "fieldRef" in source:
        source["fieldRef"]["apiVersion"] = "v1"
    if "resourceFieldRef" in source:
        source["resourceFieldRef"].setdefault("divisor", "0")
    return manifest
