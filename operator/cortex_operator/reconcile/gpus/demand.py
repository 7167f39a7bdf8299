"""What a pod takes of its node, as the scheduler counts it.

Shields the rest from containers, init containers, sidecars, overhead and the ways to write a quantity.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from cortex_operator.cluster import Object

Amounts = dict[str, Decimal]
"""Resource -> how much: CPUs, bytes, GPUs."""

_UNITS: Final = {
    **{
        unit: Decimal(1000) ** power for power, unit in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
    },
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def quantity(text: object) -> Decimal:
    """Any quantity that an API server gives: `500m`, `4Gi`, `2`, `1e3`. Raises ValueError for what is none."""
    match = re.fullmatch(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]{0,2})", str(text))
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a quantity")
    return Decimal(match[1]) * _UNITS[match[2]]


def demand(pod: Object) -> Amounts:
    """What the pod takes, and one of `pods`."""
    spec = pod.get("spec") or {}
    serving, starting = _total(map(_of, spec.get("containers") or ())), Amounts()
    sidecars = Amounts()
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            sidecars = _total((sidecars, _of(container)))
            starting = _most(starting, sidecars)
        else:
            starting = _most(starting, _total((sidecars, _of(container))))
    found = _most(_total((serving, sidecars)), starting) | _of(spec)
    return {**_total((found, _amounts(spec.get("overhead")))), "pods": Decimal(1)}


def is_over(pod: Object) -> bool:
    """Whether the pod has ended: it holds nothing any more."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def node_of(pod: Object) -> str:
    """The node that the pod has, or is to get by preemption; empty when it has none."""
    return str((pod.get("spec") or {}).get("nodeName") or (pod.get("status") or {}).get("nominatedNodeName") or "")


def allocatable(node: Object) -> Amounts:
    """What pods can take of the node, all together."""
    return _amounts((node.get("status") or {}).get("allocatable"))


def used(pods: Iterable[Object]) -> dict[str, Amounts]:
    """Node -> what its pods take."""
    found: dict[str, Amounts] = {}
    for pod in pods:
        if (node := node_of(pod)) and not is_over(pod):
            found[node] = _total((found.get(node, {}), demand(pod)))
    return found


def _of(container: dict[str, Any]) -> Amounts:
    resources = container.get("resources") or {}
    return _amounts(resources.get("limits")) | _amounts(resources.get("requests"))


def _amounts(found: dict[str, Any] | None) -> Amounts:
    return {name: quantity(amount) for name, amount in (found or {}).items()}


def _total(parts: Iterable[Amounts]) -> Amounts:
    total: Amounts = {}
    for part in parts:
        for name, amount in part.items():
            total[name] = total.get(name, Decimal(0)) + amount
    return total


def _most(one: Amounts, other: Amounts) -> Amounts:
    return {name: max(one.get(name, Decimal(0)), other.get(name, Decimal(0))) for name in one.keys() | other.keys()}
