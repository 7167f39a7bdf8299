"""`spec.template`: labels and annotations of the pods, for those who select, count or watch them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from cortex_kinds.base import Model
from cortex_kinds.cel import Rule
from cortex_kinds.labels import LabelKey, LabelValue

_OURS = "the operator's; choose another name"


def _none(field: str, found: str, message: str) -> Rule:
    return Rule(f"!has(self.{field}) || !self.{field}.exists(key, {found})", message, f".{field}")


class PodMetadata(Model):
    """What pods have beside what the operator gives them."""

    rules: ClassVar[tuple[Rule, ...]] = (
        _none(
            "labels",
            "key.startsWith('app.kubernetes.io/') || key.startsWith('cortex.datapunk.io/')",
            f"labels below app.kubernetes.io/ and cortex.datapunk.io/ are {_OURS}",
        ),
        _none(
            "labels",
            "key in ['pod-template-hash', 'controller-uid', 'job-name'] || key.startsWith('batch.kubernetes.io/')",
            "pod-template-hash, controller-uid, job-name and labels below batch.kubernetes.io/ are Kubernetes's own",
        ),
        _none(
            "labels",
            "key == 'kueue.x-k8s.io/queue-name'",
            "a queue of Kueue is named by spec.placement.queueName, which labels all that Kueue looks at",
        ),
        _none(
            "annotations",
            "key.startsWith('cortex.datapunk.io/')",
            f"annotations below cortex.datapunk.io/ are {_OURS}",
        ),
    )

    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] | None = None
    """Labels of the pods. They are in no selector of ours, so they may change."""
    annotations: Annotated[dict[LabelKey, Annotated[str, Field(max_length=4096)]], Field(max_length=32)] | None = None
    """Annotations of the pods."""
