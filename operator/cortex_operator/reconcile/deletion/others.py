"""What is said of a deleted resource that only finalizers of others keep, once its data is dropped or stays. Pure."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from cortex_kinds.common import CommonStatus, Condition
from cortex_kinds.conditions import ConditionStatus, ConditionType, Reason, get_condition

from cortex_operator.cluster import Object

FINALIZER: Final = "cortex.datapunk.io/data-cleanup"
"""Ours."""
_NAMED: Final = 5
_OF_ONE_THAT_GOES: Final = frozenset(
    {
        ConditionType.READY,
        ConditionType.RECONCILING,
        ConditionType.SUSPENDED,
        ConditionType.DELETED_IN_USE,
        ConditionType.DATA_CLEANUP,
    }
)
"""Conditions that are true without pods and data."""
_OF_PODS: Final = ("replicas", "ready_replicas", "endpoint", "image")
_OF_DATA: Final = ("current_revision", "revisions", "documents")
_ENDED: Final = frozenset({Reason.DATA_DROPPED, Reason.DATA_LEFT})

S = TypeVar("S", bound=CommonStatus)


def others(obj: Object) -> list[str]:
    """Finalizers that are not ours."""
    return [name for name in obj["metadata"].get("finalizers") or () if name != FINALIZER]


def told(status: CommonStatus) -> Condition | None:
    """DataCleanup=False: what has become of the data, as it was told before; None: it was not."""
    found = get_condition(status.conditions, ConditionType.DATA_CLEANUP)
    return found if found is not None and found.status == ConditionStatus.FALSE else None


def is_over(status: CommonStatus) -> bool:
    """Whether the cleanup has ended by itself: nothing is begun again, whoever leads by now."""
    found = told(status)
    return found is not None and found.reason in _ENDED


def waits(obj: Object, fate: str) -> str:
    """What it waits for, and how it can go."""
    meta, names = obj["metadata"], others(obj)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    listed = ("finalizer " if len(names) == 1 else "finalizers ") + ", ".join(names[:_NAMED]) + more
    patch = '[{"op":"remove","path":"/metadata/finalizers"}]'
    return (
        f"it is being deleted: {fate}; it waits for {listed}, which whoever set it takes away, and nothing of it is "
        f"repaired meanwhile. Where nobody takes it away any more: kubectl -n {meta['namespace']} patch "
        f"{obj['kind'].lower()} {meta['name']} --type=json -p '{patch}'"
    )


def without_pods(status: S, *, data: bool) -> S:
    """The status without what was said of pods, and of the data unless `data` is there still."""
    fields = type(status).model_fields
    gone = [name for name in (*_OF_PODS, *(() if data else _OF_DATA)) if name in fields]
    update: dict[str, Any] = {name: fields[name].get_default(call_default_factory=True) for name in gone}
    kept = [each for each in status.conditions if each.type in _OF_ONE_THAT_GOES]
    return status.model_copy(update={**update, "conditions": kept})
