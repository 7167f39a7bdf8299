"""CortexWorkflow (`cxw`): a graph service and the graph that it runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from cortex_kinds.base import Bounded, Duration, Model, Name, Quantity, Whole
from cortex_kinds.cache import WorkflowCache, check_fit
from cortex_kinds.common import CommonSpec, CommonStatus, ObjectMeta
from cortex_kinds.nodes import Node, NodeTarget
from cortex_kinds.resilience import WorkflowResilience


class IndexUse(Model):
    """An index that the workflow searches."""

    name: Name
    """A CortexIndex; nodes name it so too."""
    namespace: Name | None = None
    """Its namespace, which must let this one use it: `spec.access.allowedNamespaces` of the index. Unset: the
    workflow's own."""

    def home(self, own: str) -> str:
        """The index's namespace; `own`: that of the workflow."""
        return self.namespace or own


class Input(Model):
    """What a run is given."""

    # `schema` would shadow a method of pydantic's.
    schema_: Annotated[
        dict[str, Any],
        Field(alias="schema", json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
    ] = Field(default_factory=lambda: {"type": "object"})
    """JSON Schema (2020-12) of the input, an object. Its properties are the first keys of the state."""


class Edge(Model):
    """One node follows another."""

    from_: Annotated[str, Field(alias="from", min_length=1, max_length=63)]
    """A node, or START. A Route has no edges from it: its cases say where to go."""
    to: NodeTarget
    """A node, or END."""


class Limits(Model):
    """What a run may use."""

    steps: Annotated[int, Field(ge=1, le=1000), Whole] = 50
    """Super-steps."""
    parallelism: Annotated[int, Field(ge=1, le=64), Whole] = 16
    """Nodes that run at the same time."""
    duration: Duration = "10m"
    """Time."""
    state_bytes: Quantity = "1Mi"
    """The state as JSON."""


class Durability(StrEnum):
    """When a run's checkpoints are written (LangGraph's durability modes)."""

    EXIT = "Exit"
    ASYNC = "Async"
    SYNC = "Sync"


class Execution(Model):
    """How runs are executed."""

    durability: Durability = Durability.ASYNC
    """Exit: at the end only, fastest, an interrupted run starts again; Async: beside the next step; Sync: before it."""


class WorkflowRevisions(Model):
    """What happens to revisions."""

    retain: Annotated[int, Field(ge=0, le=8), Whole] = 3
    """Revisions kept beside the current one."""


class CortexWorkflowSpec(CommonSpec):
    """A graph service and the graph that it runs."""

    indexes: Annotated[
        list[IndexUse],
        Field(
            max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        ),
    ] = Field(default_factory=list)
    """The indexes that Search nodes use."""
    input: Input = Input()
    """What a run is given."""
    nodes: Annotated[
        list[Node],
        Field(
            min_length=1,
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ]
    """The nodes of the graph."""
    edges: Annotated[list[Edge], Field(min_length=1, max_length=256)]
    """The edges of the graph; at least one from START."""
    limits: Limits = Limits()
    """What a run may use."""
    execution: Execution = Execution()
    """How runs are executed."""
    revisions: WorkflowRevisions = WorkflowRevisions()
    """What happens to revisions."""
    resilience: WorkflowResilience | None = None
    """What its pods do when an index fails; unset: as `{}`. A change reaches pods that run, without a restart."""
    cache: WorkflowCache | None = None
    """How much its pods keep of nodes with `cache`; unset: as `{}`. It counts against `resources.limits.memory`. A
    change replaces the pods and makes no revision."""

    @model_validator(mode="after")
    def _caches_leave_memory(self) -> Self:
        if self.cache is not None:
            check_fit(self.resources, nodeResults=self.cache.node_results.memory)
        return self


class CortexWorkflowStatus(CommonStatus):
    """What the operator saw last."""


class CortexWorkflow(Model):
    """A CortexWorkflow."""

    model_config = ConfigDict(extra="ignore")

    api_version: Literal["cortex.datapunk.io/v1alpha1"] = "cortex.datapunk.io/v1alpha1"
    kind: Literal["CortexWorkflow"] = "CortexWorkflow"
    metadata: ObjectMeta
    spec: Annotated[CortexWorkflowSpec, Bounded]
    status: CortexWorkflowStatus = CortexWorkflowStatus()
