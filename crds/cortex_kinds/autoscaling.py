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


HTTP_URL: Final = r"^https?://[^\s@]+$"


class MetricType(StrEnum):
    """What is measured: what pods use of what they request (CPU, Memory), or what a Prometheus says."""

    CPU = "CPU"
    MEMORY = "Memory"
    PROMETHEUS = "Prometheus"


class PrometheusMetric(Model):
    """A number that a Prometheus tells; the cluster needs KEDA."""

    query: Annotated[str, Field(min_length=1, max_length=2048)]
    """PromQL with one number as its result, for all pods together: `sum(rate(requests_total[2m]))`."""
    threshold: Annotated[str, Field(max_length=16, pattern=r"^([1-9][0-9]{0,8}(\.[0-9]{1,3})?|0\.[0-9]{0,2}[1-9])$")]
    """How much of it each pod is to have on average: `"100"`, `"0.5"`. Above it pods are added."""
    server_address: Annotated[str, Field(max_length=512, pattern=HTTP_URL)] | None = None
    """URL of the Prometheus, without credentials: `http://prometheus.monitoring:9090`. Unset: the release's (chart
    value `autoscaling.prometheusAddress`)."""


class Metric(Model):
    """One number that decides how many pods there are."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.type == 'Prometheus') == has(self.prometheus)",
            "prometheus is needed with type Prometheus, and is for it only",
            ".prometheus",
        ),
        Rule(
            "(self.type == 'Prometheus') != has(self.target)",
            "target is needed with the types CPU and Memory, and is for them only: Prometheus has a threshold",
            ".target",
        ),
    )

    type: MetricType
    """What is measured."""
    target: Annotated[str, Field(max_length=3, pattern="^[1-9][0-9]{0,2}$")] | None = None
    """CPU, Memory: percent of `resources.requests` that the pods are to use on average: `"70"`. Above it pods are
    added."""
    prometheus: PrometheusMetric | None = None
    """Prometheus: what is asked."""


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
    """A HorizontalPodAutoscaler for the resource's pods, for which the cluster needs a metrics server; with metrics of
    type Prometheus a ScaledObject, for which it needs KEDA."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.minReplicas <= self.maxReplicas", "maxReplicas must be at least minReplicas", ".maxReplicas"),
        Rule(
            "!has(self.metrics)"
            " || self.metrics.all(a, a.type == 'Prometheus' || self.metrics.exists_one(b, b.type == a.type))",
            "metrics has CPU and Memory once each",
            ".metrics",
        ),
    )

    min_replicas: Annotated[int, Field(ge=1, le=1000), Whole] = 1
    """The fewest pods."""
    max_replicas: Annotated[int, Field(ge=1, le=1000), Whole]
    """The most pods."""
    metrics: Annotated[list[Metric], Field(min_length=1, max_length=8)] = Field(
        default_factory=lambda: [Metric(type=MetricType.CPU, target="70")]
    )
    """What decides; the metric that asks for the most pods wins. Unset: CPU at 70."""
    behavior: Behavior = Behavior()
    """How fast the number of pods follows."""

    @property
    def asks_prometheus(self) -> bool:
        """Whether a Prometheus decides, alone or with others."""
        return any(metric.type is MetricType.PROMETHEUS for metric in self.metrics)
