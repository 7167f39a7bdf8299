"""GPUs of a pod: the resource that it takes, the labels that its node must have, the taints that it tolerates.

Shields everybody else from how the vendors' device plugins and feature discovery name things.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cortex_kinds.base import parse_quantity
from cortex_kinds.gpu import GPU, Allocation, GPUVendor, Sharing

from cortex_operator.manifests.gpupool import GPUPool, pool_of

_RESOURCE: Final = {
    GPUVendor.NVIDIA: "nvidia.com/gpu",
    GPUVendor.AMD: "amd.com/gpu",
    GPUVendor.INTEL: "gpu.intel.com/i915",
}
_PRODUCT: Final = {
    GPUVendor.NVIDIA: "nvidia.com/gpu.product",
    GPUVendor.AMD: "amd.com/gpu.product-name",
    GPUVendor.INTEL: "gpu.intel.com/product",
}
_OTHERS: Final = {"nvidia.com/gpu.shared": GPUVendor.NVIDIA, "gpu.intel.com/xe": GPUVendor.INTEL}
_VENDOR: Final = {**{resource: vendor for vendor, resource in _RESOURCE.items()}, **_OTHERS}
"""Resource -> whose. Vendors offer others beside that are no GPUs, such as `gpu.intel.com/i915_monitoring`."""
_MIG: Final = "nvidia.com/mig-"
MEMORY_LABEL: Final = "nvidia.com/gpu.memory"
"""MiB of each GPU of a node."""
_SLICED: Final = "nvidia.com/gpu.slices.gi"
"""Only nodes that offer MIG slices as `nvidia.com/gpu` have this label."""
_STRATEGY: Final = ".sharing-strategy"
"""How the label of a resource ends that says whether pods share its GPUs."""
_SHARED: Final = {"mps": Sharing.MPS, "time-slicing": Sharing.TIME_SLICED}
"""Its values where several pods get the same GPU."""
_ENOUGH: Final = 0.95
"""Share of the memory asked for from which on a GPU matches: drivers keep some for themselves."""

Requirement = dict[str, Any]
"""A node selector requirement: `{key, operator, values}`."""


def gpu_resource(gpu: GPU) -> str:
    """The extended resource: `nvidia.com/gpu`, `amd.com/gpu`, `gpu.intel.com/xe`, `nvidia.com/mig-1g.10gb`."""
    if gpu.partition is not None:
        return f"{_MIG}{gpu.partition.profile.replace('+', '.')}"
    if gpu.driver is not None:
        return f"gpu.intel.com/{gpu.driver}"
    return _RESOURCE[gpu.vendor]


def gpu_limits(gpu: GPU | None) -> dict[str, str]:
    """What stands in the container's limits; nothing for GPUs that are claimed."""
    return {gpu_resource(gpu): str(gpu.count)} if gpu is not None and not _by_devices(gpu) else {}


def gpu_requirements(gpu: GPU) -> list[Requirement]:
    """What the labels of the node must say; nothing for GPUs that are claimed: the devices say it."""
    return [] if _by_devices(gpu) else [*_of_product(gpu), *_of_memory(gpu)]


def node_requirements(gpu: GPU | None, pools: Sequence[GPUPool] | None) -> list[Requirement]:
    """The same, and the labels of the pool that is asked for."""
    if gpu is None:
        return []
    pool = pool_of(gpu, pools or ())
    selector = sorted(pool.node_selector.items()) if pool else ()
    return [*gpu_requirements(gpu), *({"key": k, "operator": "In", "values": [v]} for k, v in selector)]


def gpu_tolerations(gpu: GPU | None, pools: Sequence[GPUPool] | None) -> list[dict[str, Any]]:
    """The taints of nodes with such GPUs, and those of the pool that is asked for."""
    if gpu is None:
        return []
    pool = pool_of(gpu, pools or ())
    # Nodes cut by MIG keep the taint of the whole GPU.
    taints = dict.fromkeys((gpu_resource(gpu), _RESOURCE[gpu.vendor]) if gpu.driver is None else (gpu_resource(gpu),))
    needed: list[dict[str, Any]] = [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in taints]
    return [*needed, *(each for each in pool.tolerations if each not in needed)] if pool else needed


def is_gpu(resource: str) -> bool:
    """Whether a resource of nodes and containers is GPUs or parts of them, of whichever vendor."""
    return resource in _VENDOR or resource.startswith(_MIG)


def kind_of(resource: str, labels: Mapping[str, str]) -> str:
    """What a node with these labels gives as that resource: Whole GPUs, slices (MIG), or shares (TimeSliced, MPS)."""
    shared = _SHARED.get(labels.get(f"{resource.removesuffix('.shared')}{_STRATEGY}", ""))
    return str(shared) if shared else "MIG" if resource.startswith(_MIG) or _SLICED in labels else "Whole"


def product_of(resource: str, labels: Mapping[str, str]) -> str:
    """The product that a node with these labels gives as that resource; empty when they do not tell."""
    key = _PRODUCT[_VENDOR[resource]] if resource in _VENDOR else f"{resource}.product"
    return labels.get(key, "")


def plainly(wanted: Requirement, found: str | None) -> str:
    """What nodes lack that have `found` at a label of GPUs, where its name and value alone say little; else empty."""
    match wanted:
        case {"key": key, "operator": "DoesNotExist"} if key == _SLICED:
            return "whole GPUs (only MIG slices are offered)"
        case {"key": key, "operator": "NotIn"} if key.endswith(_STRATEGY):
            return f"exclusive GPUs (these are shared: {key} is {found})"
        case {"key": key, "operator": "In", "values": values} if key.endswith(_STRATEGY):
            these = f"{key} is {found}" if found in _SHARED else "these are not shared"
            return f"GPUs shared by {' or '.join(values)} ({these})"
    return ""


def _of_product(gpu: GPU) -> list[Requirement]:
    named = [{"key": _PRODUCT[gpu.vendor], "operator": "In", "values": list(gpu.products)}] if gpu.products else []
    if gpu.vendor is not GPUVendor.NVIDIA:
        return named
    whole = [] if gpu.products or gpu.partition else [{"key": _SLICED, "operator": "DoesNotExist"}]
    return [*named, *_of_sharing(gpu), *whole]


def _of_sharing(gpu: GPU) -> list[Requirement]:
    sharing = gpu.sharing or (Sharing.ANY if gpu.products else Sharing.EXCLUSIVE)
    if sharing is Sharing.ANY:
        return []
    key, strategies = f"{gpu_resource(gpu)}{_STRATEGY}", [s for s, mode in _SHARED.items() if mode is sharing]
    if strategies:
        return [{"key": key, "operator": "In", "values": strategies}]
    return [{"key": key, "operator": "NotIn", "values": sorted(_SHARED)}]


def _of_memory(gpu: GPU) -> list[Requirement]:
    if gpu.memory is None:
        return []
    return [{"key": MEMORY_LABEL, "operator": "Gt", "values": [str(least_mebibytes(gpu.memory) - 1)]}]


def least_mebibytes(memory: str) -> int:
    """The memory, in MiB, from which on a GPU matches."""
    return math.ceil(parse_quantity(memory) * _ENOUGH / 2**20)


def _by_devices(gpu: GPU) -> bool:
    return gpu.allocation is Allocation.DRA
