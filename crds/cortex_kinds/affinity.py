"""`spec.placement.affinity`: nodes and neighbours that a pod needs, prefers or avoids, as in a pod."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from cortex_kinds.base import Model, Name, Whole
from cortex_kinds.cel import Rule
from cortex_kinds.labels import LabelKey, LabelSelector, LabelValue

Weight = Annotated[int, Field(ge=1, le=100), Whole]
"""How much a preference counts."""


class NodeOperator(StrEnum):
    """How a label of a node is compared; Gt and Lt compare whole numbers."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


class NodeRequirement(Model):
    """What one label of the node must say."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.operator in ['Exists', 'DoesNotExist']) == (!has(self.values) || size(self.values) == 0)",
            "In, NotIn, Gt and Lt need values, Exists and DoesNotExist have none",
            ".values",
        ),
        Rule(
            "!(self.operator in ['Gt', 'Lt']) || !has(self.values) || size(self.values) == 1",
            "Gt and Lt have one value, a whole number",
            ".values",
        ),
    )

    key: LabelKey
    """The label."""
    operator: NodeOperator
    """How it is compared."""
    values: Annotated[list[LabelValue], Field(max_length=32)] | None = None
    """What it is compared with."""


class NodeTerm(Model):
    """Nodes by their labels; all that is said here must hold."""

    match_expressions: Annotated[list[NodeRequirement], Field(min_length=1, max_length=16)]
    """What labels must say."""


class NodeTerms(Model):
    """Nodes of which any will do."""

    node_selector_terms: Annotated[list[NodeTerm], Field(min_length=1, max_length=16)]
    """One of these must hold. What `spec.gpu` asks for is added to each."""


class PreferredNodes(Model):
    """Nodes that are better than others."""

    weight: Weight
    """How much better."""
    preference: NodeTerm
    """Which nodes."""


class NodeAffinity(Model):
    """Nodes that the pods need or prefer."""

    required_during_scheduling_ignored_during_execution: NodeTerms | None = None
    """No other node will do."""
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredNodes], Field(max_length=16)] | None
    ) = None
    """Better than others."""


class PodTerm(Model):
    """Pods, and how near to them."""

    topology_key: LabelKey
    """Near is where nodes have the same value of this label: `kubernetes.io/hostname`."""
    label_selector: LabelSelector | None = None
    """Which pods; unset: none."""
    namespaces: Annotated[list[Name], Field(max_length=16)] | None = None
    """Where they are; with neither this nor `namespaceSelector`: in the resource's namespace."""
    namespace_selector: LabelSelector | None = None
    """Where they are, by the labels of namespaces."""


class PreferredPods(Model):
    """Neighbours that are better, or worse, than others."""

    weight: Weight
    """How much."""
    pod_affinity_term: PodTerm
    """Which pods."""


class PodAffinity(Model):
    """Pods to be near to, or away from."""

    required_during_scheduling_ignored_during_execution: Annotated[list[PodTerm], Field(max_length=16)] | None = None
    """All of these must hold."""
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredPods], Field(max_length=16)] | None
    ) = None
    """The more of these hold, the better."""


class Affinity(Model):
    """Nodes and neighbours that a pod needs, prefers or avoids."""

    node_affinity: NodeAffinity | None = None
    """Nodes, by their labels."""
    pod_affinity: PodAffinity | None = None
    """Pods to be near to."""
    pod_anti_affinity: PodAffinity | None = None
    """Pods to be away from."""
