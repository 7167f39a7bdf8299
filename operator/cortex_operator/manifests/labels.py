"""Labels and owners of the objects of a resource."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cortex_kinds.index import CortexIndex
from cortex_kinds.workflow import CortexWorkflow

Resource = CortexIndex | CortexWorkflow

INDEX_LABEL: Final = "cortex.datapunk.io/index"
WORKFLOW_LABEL: Final = "cortex.datapunk.io/workflow"
REVISION_LABEL: Final = "cortex.datapunk.io/revision"
MANAGED: Final = {"app.kubernetes.io/managed-by": "cortex-operator"}
"""The label of every object that the operator makes, and of their pods."""

_NAME: Final = "app.kubernetes.io/name"
_INSTANCE: Final = "app.kubernetes.io/instance"
_COMPONENT: Final = "app.kubernetes.io/component"
_SERVICE_OF_KIND: Final = {"CortexIndex": "datapunk-cortex-haystack", "CortexWorkflow": "datapunk-cortex-graph"}
_LABEL_OF_KIND: Final = {"CortexIndex": INDEX_LABEL, "CortexWorkflow": WORKFLOW_LABEL}


@dataclass(frozen=True)
class Part:
    """One part of a resource: what it belongs to and its component (search, graph, ingest)."""

    resource: Resource
    component: str

    @property
    def selector(self) -> dict[str, str]:
        """The labels that find the part's pods; never changed, as a Deployment's selector cannot be."""
        return {
            _NAME: _SERVICE_OF_KIND[self.resource.kind],
            _INSTANCE: self.resource.metadata.name,
            _COMPONENT: self.component,
        }

    @property
    def all_pods(self) -> dict[str, str]:
        """The labels that find the pods of all parts of the resource."""
        return {name: value for name, value in self.selector.items() if name != _COMPONENT}

    @property
    def labels(self) -> dict[str, str]:
        """All labels of the part's objects."""
        return {
            **self.selector,
            "app.kubernetes.io/part-of": "datapunk-cortex",
            **MANAGED,
            **self.resource_selector,
        }

    @property
    def resource_selector(self) -> dict[str, str]:
        """The label that finds the pods of all parts of the resource."""
        return {_LABEL_OF_KIND[self.resource.kind]: self.resource.metadata.name}

    def metadata(self, name: str, **labels: str) -> dict[str, Any]:
        """The metadata of an object of the part, owned by the resource."""
        return {
            "name": name,
            "namespace": self.resource.metadata.namespace,
            "labels": {**self.labels, **labels},
            "ownerReferences": [_owner(self.resource)],
        }


def pods_of_index(name: str) -> dict[str, str]:
    """The labels that find the pods that serve an index."""
    return {_NAME: _SERVICE_OF_KIND["CortexIndex"], _INSTANCE: name, _COMPONENT: "search"}


def pods_of_workflows() -> dict[str, str]:
    """The labels that find the pods of every workflow."""
    return {_NAME: _SERVICE_OF_KIND["CortexWorkflow"], _COMPONENT: "graph"}


def _owner(resource: Resource) -> dict[str, Any]:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": resource.metadata.name,
        "uid": resource.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def selector_text(selector: dict[str, str]) -> str:
    """A selector as the scale subresource wants it: `a=b,c=d`."""
    return ",".join(f"{name}={value}" for name, value in sorted(selector.items()))
