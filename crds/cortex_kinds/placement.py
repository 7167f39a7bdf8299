"""`spec.placement`: where pods may run. The names are a pod's own, so that what works there works here."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from cortex_kinds.affinity import Affinity
from cortex_kinds.base import DNS_SUBDOMAIN, Model, Whole
from cortex_kinds.cel import Rule
from cortex_kinds.labels import LabelKey, LabelSelector, LabelValue
from cortex_kinds.lists import keyed, unique

ClassName = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
"""The name of an object without a namespace."""


class TolerationOperator(StrEnum):
    """How a taint is compared: by its value, or not at all."""

    EQUAL = "Equal"
    EXISTS = "Exists"


class TaintEffect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Model):
    """A taint that does not keep the pods away."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "a toleration without a key tolerates every taint: that needs operator Exists",
            ".operator",
        ),
        Rule(
            "!has(self.value) || !has(self.operator) || self.operator != 'Exists'",
            "operator Exists compares no value",
            ".value",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds is for effect NoExecute only",
            ".tolerationSeconds",
        ),
    )

    key: LabelKey | None = None
    """The taint's key; unset, with operator Exists: every taint."""
    operator: TolerationOperator | None = None
    """Unset: Equal."""
    value: LabelValue | None = None
    """The taint's value."""
    effect: TaintEffect | None = None
    """The taint's effect; unset: every effect."""
    toleration_seconds: Annotated[int, Field(ge=0), Whole] | None = None
    """How long pods stay on a node that gets the taint; unset: for ever."""


class WhenUnsatisfiable(StrEnum):
    """What holds where pods cannot be spread as evenly as asked."""

    DO_NOT_SCHEDULE = "DoNotSchedule"
    SCHEDULE_ANYWAY = "ScheduleAnyway"


class NodeInclusion(StrEnum):
    """Whether nodes that the pods cannot have count."""

    HONOR = "Honor"
    IGNORE = "Ignore"


class TopologySpreadConstraint(Model):
    """How evenly pods are spread."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.minDomains) || self.whenUnsatisfiable == 'DoNotSchedule'",
            "minDomains is for whenUnsatisfiable DoNotSchedule only",
            ".minDomains",
        ),
    )

    max_skew: Annotated[int, Field(ge=1, le=1000), Whole]
    """By how many pods two parts may differ."""
    topology_key: LabelKey
    """The parts are the values of this label of nodes: `topology.kubernetes.io/zone`."""
    when_unsatisfiable: WhenUnsatisfiable
    """DoNotSchedule: pods wait; ScheduleAnyway: the scheduler does what it can."""
    label_selector: LabelSelector | None = None
    """Which pods are counted; unset: the resource's own that serve."""
    match_label_keys: Annotated[list[LabelKey], Field(max_length=16)] | None = None
    """Count only pods with the same values of these labels, such as `pod-template-hash`."""
    min_domains: Annotated[int, Field(ge=1, le=1000), Whole] | None = None
    """How many parts there must be."""
    node_affinity_policy: NodeInclusion | None = None
    """Nodes that the pods' affinity leaves out; unset: Honor, they do not count."""
    node_taints_policy: NodeInclusion | None = None
    """Nodes with taints that are not tolerated; unset: Ignore, they count."""


class Placement(Model):
    """Where pods may run. What `spec.gpu` asks for is added."""

    node_selector: Annotated[dict[LabelKey, LabelValue], Field(max_length=16)] | None = None
    """Labels that the node must have."""
    affinity: Affinity | None = None
    """Nodes and neighbours that pods need, prefer or avoid: `nodeAffinity`, `podAffinity`, `podAntiAffinity`, as in a
    pod."""
    tolerations: Annotated[list[Toleration], Field(max_length=16)] | None = None
    """Taints that do not keep the pods away."""
    topology_spread_constraints: (
        Annotated[
            list[TopologySpreadConstraint],
            keyed("topologyKey", "whenUnsatisfiable", most=16),
            unique("topologyKey", "whenUnsatisfiable"),
        ]
        | None
    ) = None
    """How the serving pods are spread. Unset: over hosts and zones, as far as there is room; `[]`: not at all."""
    priority_class_name: ClassName | None = None
    """A PriorityClass."""
    runtime_class_name: ClassName | None = None
    """A RuntimeClass."""
    queue_name: Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_SUBDOMAIN)] | None = None
    """A LocalQueue of Kueue in the resource's namespace, which then admits the pods. Cannot be changed while pods are
    ready."""
