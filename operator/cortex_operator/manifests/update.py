"""The strategy of a Deployment: what a change of the pods may cost."""

from __future__ import annotations

from typing import Any, Final

from cortex_kinds.common import CommonSpec
from cortex_kinds.update import Update, UpdateStrategy

_NONE: Final = ("0", "0%")


def update_strategy(spec: CommonSpec) -> dict[str, Any]:
    """Without `update`: never fewer ready pods than asked; with GPUs never more GPUs than the pods have."""
    if _recreates(spec):
        return {"type": "Recreate"}
    surge, unavailable = _counts(spec.update, with_gpu=spec.gpu is not None)
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def _recreates(spec: CommonSpec) -> bool:
    if spec.update != Update():
        return spec.update.strategy is UpdateStrategy.RECREATE
    return spec.gpu is not None and spec.most_replicas <= 1


def _counts(update: Update, *, with_gpu: bool) -> tuple[int | str, int | str]:
    """Surge and unavailable; of the two, one that is not given never makes both 0."""
    surge, unavailable = update.max_surge, update.max_unavailable
    if surge is None:
        surge = "0" if with_gpu and unavailable not in _NONE else "1"
    if unavailable is None:
        unavailable = "1" if with_gpu or surge in _NONE else "0"
    return _plain(surge), _plain(unavailable)


def _plain(count: str) -> int | str:
    return count if count.endswith("%") else int(count)
