"""The file of policies that the pods of a resource follow while they run: a key of their ConfigMap, mounted.

It is no part of the digest by which settings roll pods. Every pod mounts it, also of a resource without
`spec.resilience`, so that the first word in it replaces no pod either. The ConfigMap is `envFrom` too: kubelet makes a
variable of the key at the start, which nobody reads, or before Kubernetes 1.32 skips it, with an Event.
"""

from __future__ import annotations

from typing import Final

from cortex_kinds.index import CortexIndexSpec
from cortex_kinds.workflow import CortexWorkflowSpec
from cortex_workloads.runtime.resilience.policies import (
    BreakerPolicy,
    GraphPolicies,
    Policies,
    SearchLimits,
    SearchPolicies,
)
from cortex_workloads.runtime.settings import POLICIES_FILE

from cortex_operator.manifests.storage import Volume

POLICIES_KEY: Final = POLICIES_FILE.name
"""Of the ConfigMap."""
_VOLUME: Final = "policies"


def index_policies(spec: CortexIndexSpec) -> SearchPolicies:
    """What the pods of the index do."""
    if spec.resilience is None:
        return SearchPolicies()
    return SearchPolicies(limits=SearchLimits.of(spec.resilience.limits))


def workflow_policies(spec: CortexWorkflowSpec) -> GraphPolicies:
    """What the pods of the workflow do."""
    if spec.resilience is None:
        return GraphPolicies()
    return GraphPolicies(breaker=BreakerPolicy.of(spec.resilience.circuit_breaker))


def policies_data(policies: Policies) -> dict[str, str]:
    """The key of the ConfigMap. What is as by default is left out: pods of another release, which know other fields,
    need not refuse it."""
    told = policies.model_dump_json(by_alias=True, exclude_defaults=True)
    return {POLICIES_KEY: told} if told != "{}" else {}


def policies_volume(config_map: str) -> Volume:
    """A folder, as a single file would not follow; the key may be missing."""
    source = {"name": config_map, "items": [{"key": POLICIES_KEY, "path": POLICIES_FILE.name}], "optional": True}
    mount = {"name": _VOLUME, "mountPath": str(POLICIES_FILE.parent), "readOnly": True}
    return Volume({"name": _VOLUME, "configMap": source}, mount)
