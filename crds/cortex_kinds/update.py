"""`spec.update`: how a change of the pods reaches those that serve."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from cortex_kinds.base import Model
from cortex_kinds.cel import Rule

MOST_PODS = 1000


def _count(value: Any) -> Any:
    match value:
        case str():
            return value
        case int() | float() if not isinstance(value, bool) and value == value // 1 and 0 <= value <= MOST_PODS:
            return str(int(value))
    raise PydanticCustomError("count_type", "Input should be a whole number or a percentage such as '25%'")


PodCount = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4,
        pattern=r"^([0-9]{1,2}%|100%|[0-9]{1,4})$",
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "minimum": 0,
            "maximum": MOST_PODS,
        },
    ),
    BeforeValidator(_count),
]
"""Pods, as a number or as a share of `replicas`: 1, "25%". Kept as a string."""


class UpdateStrategy(StrEnum):
    """Whether pods are replaced bit by bit, or all at once: Recreate ends the old ones first."""

    ROLLING = "Rolling"
    RECREATE = "Recreate"


class Update(Model):
    """How a change of the pods reaches those that serve."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(has(self.strategy) && self.strategy == 'Recreate') || !(has(self.maxSurge) || has(self.maxUnavailable))",
            "maxSurge and maxUnavailable are for strategy Rolling only",
            ".strategy",
        ),
        Rule(
            "!(has(self.maxSurge) && has(self.maxUnavailable) && string(self.maxSurge) in ['0', '0%']"
            " && string(self.maxUnavailable) in ['0', '0%'])",
            "maxSurge and maxUnavailable cannot both be 0: no pod could ever be replaced",
            ".maxUnavailable",
        ),
    )

    strategy: UpdateStrategy | None = None
    """Unset: Rolling; for a single pod with a GPU and none of the fields below, Recreate."""
    max_surge: PodCount | None = None
    """Pods beyond `replicas` during an update: a number, or a share such as `"25%"`. Unset: 1; with GPUs 0, or 1 when
    maxUnavailable is 0."""
    max_unavailable: PodCount | None = None
    """Pods below `replicas` during an update: a number, or a share such as `"25%"`. Unset: 0, or 1 when maxSurge is 0;
    with GPUs 1."""
