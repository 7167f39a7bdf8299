"""What one node lacks for a pod, by the rules of the scheduler's filters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from cortex_operator.cluster import Object
from cortex_operator.manifests.gpu import is_gpu
from cortex_operator.reconcile.gpus.demand import allocatable, demand
from cortex_operator.reconcile.gpus.holders import Room
from cortex_operator.reconcile.gpus.selection import unmet, untolerated


@dataclass(frozen=True)
class Lacks:
    """What a node lacks, in words. `never`: what it could not give if it were empty; `shut`: taints; `full`: what other
    pods hold. Nothing in any: the pod fits."""

    node: str
    never: tuple[str, ...] = ()
    shut: tuple[str, ...] = ()
    full: tuple[str, ...] = ()
    held: bool = False
    """Whether GPUs are among what others hold."""
    missing: int = 0
    """GPUs that must become free here."""

    @property
    def fits(self) -> bool:
        """Whether nothing is lacking."""
        return not (self.never or self.shut or self.full or self.held)

    @property
    def distance(self) -> tuple[int, int, int, int]:
        """Smaller is closer to a fit."""
        return len(self.never), len(self.shut), len(self.full) + self.held, self.missing


_UNIT: Final = {"memory": Decimal(1024) ** 3, "ephemeral-storage": Decimal(1024) ** 3}


def lacks(pod: Object, node: Object, room: Room) -> Lacks:
    """What the node lacks for the pod beside those that are there already."""
    name = node["metadata"]["name"]
    wanted = {resource: amount for resource, amount in demand(pod).items() if amount > 0}
    has, taken = allocatable(node), room.used.get(name, {})
    never = [_offers(r, has.get(r), n) for r, n in sorted(wanted.items()) if has.get(r, Decimal(0)) < n]
    short = {r: n - (has[r] - taken.get(r, Decimal(0))) for r, n in wanted.items() if has.get(r, Decimal(0)) >= n}
    short = {r: amount for r, amount in short.items() if amount > 0}
    full = [_free(r, has[r] - taken.get(r, Decimal(0)), wanted[r]) for r in sorted(short) if not is_gpu(r)]
    missing = max((int(amount) for r, amount in short.items() if is_gpu(r)), default=0)
    return Lacks(name, (*never, *unmet(pod, node)), tuple(untolerated(pod, node)), tuple(full), missing > 0, missing)


def unforeseen(pod: Object, room: Room) -> list[str]:
    """What the scheduler looks at and this module does not."""
    return list(_unforeseen(pod, room))


def _unforeseen(pod: Object, room: Room) -> Iterable[str]:
    spec = pod.get("spec") or {}
    affinity = spec.get("affinity") or {}
    if any(affinity.get(kind) for kind in ("podAffinity", "podAntiAffinity")) or room.exclusive:
        yield "pods that want others near or away"
    if any(each.get("whenUnsatisfiable") != "ScheduleAnyway" for each in spec.get("topologySpreadConstraints") or ()):
        yield "its topology spread"
    if any("persistentVolumeClaim" in volume or "ephemeral" in volume for volume in spec.get("volumes") or ()):
        yield "where its volumes are"
    if any(port.get("hostPort") for each in spec.get("containers") or () for port in each.get("ports") or ()):
        yield "the ports of the nodes"
    if spec.get("resourceClaims"):
        yield "its resource claims"
    if room.unseen:
        yield f"what other pods take ({room.unseen})"


def _offers(resource: str, has: Decimal | None, wanted: Decimal) -> str:
    if not has:
        return f"no {resource}"
    return f"{_amount(resource, has)} {resource} ({_amount(resource, wanted)} asked)"


def _free(resource: str, free: Decimal, wanted: Decimal) -> str:
    return f"{_amount(resource, max(free, Decimal(0)))} {resource} free ({_amount(resource, wanted)} asked)"


def _amount(resource: str, amount: Decimal) -> str:
    if resource in _UNIT:
        return f"{float(amount / _UNIT[resource]):.4g}Gi"
    return f"{float(amount):.6g}"
