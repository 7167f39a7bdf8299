"""`spec.autoscaling`: how many pods there are, by what they use."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field

from cortex_kinds.base import Duration, Model, Whole
from cortex_kinds.cel import Rule

REPLICAS_OR_AUTOSCALING: Final = Rule(
    "!has(self.replicas) || !has(self.autoscaling)",
    "replicas and autoscaling exclude each other: with autoscaling, set minReplicas and maxReplicas",
    ".replicas",
)
"""For the spec that has both fields."""


class MetricType(StrEnum):
    """What is measured."""

    CPU = "CPU"
    MEMORY = "Memory"


class Metric(Model):
    """What the pods use, on average, of what they request."""

    type: MetricType
    """What is measured."""
    target: Annotated[str, Field(max_length=3, pattern="^[1-9][0-9]{0,2}$")]
    """Percent of `resources.requests` that the pods are to use on average: `"70"`. Above it pods are added."""


class ScaleDown(Model):
    """How pods are taken away."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "duration(self.stabilizationWindow) <= duration('1h')",
            "stabilizationWindow is at most 1h",
            ".stabilizationWindow",
        ),
    )

    stabilization_window: Duration = "5m"
    """Pods are taken away when they were too many for so long; at most 1h, in whole seconds."""


class Behavior(Model):
    """How fast the number of pods follows."""

    scale_down: ScaleDown = ScaleDown()
    """How pods are taken away."""


class Autoscaling(Model):
    """A HorizontalPodAutoscaler for the resource's pods; the cluster needs a metrics server."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.minReplicas <= self.maxReplicas", "maxReplicas must be at least minReplicas", ".maxReplicas"),
        Rule(
            "!has(self.metrics) || self.metrics.all(a, self.metrics.exists_one(b, b.type == a.type))",
            "metrics has each type once",
            ".metrics",
        ),
    )

    min_replicas: Annotated[int, Field(ge=1, le=1000), Whole] = 1
    """The fewest pods."""
    max_replicas: Annotated[int, Field(ge=1, le=1000), Whole]
    """The most pods."""
    metrics: Annotated[list[Metric], Field(min_length=1, max_length=2)] = Field(
        default_factory=lambda: [Metric(type=MetricType.CPU, target="70")]
    )
    """What decides; the metric that asks for the most pods wins. Unset: CPU at 70."""
    behavior: Behavior = Behavior()
    """How fast the number of pods follows."""
