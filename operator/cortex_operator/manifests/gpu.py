"""GPUs of a pod: the resource that it takes, the labels that its node must have, the taints that it tolerates.

Shields everybody else from how NVIDIA's and AMD's device plugins and feature discovery name things.
"""

from __future__ import annotations

import math
from typing import Any, Final

from cortex_kinds.base import parse_quantity
from cortex_kinds.gpu import GPU, GPUVendor

_RESOURCE: Final = {GPUVendor.NVIDIA: "nvidia.com/gpu", GPUVendor.AMD: "amd.com/gpu"}
_PRODUCT: Final = {GPUVendor.NVIDIA: "nvidia.com/gpu.product", GPUVendor.AMD: "amd.com/gpu.product-name"}
_MEMORY: Final = "nvidia.com/gpu.memory"
_ENOUGH: Final = 0.95
"""Share of the memory asked for from which on a GPU matches: drivers keep some for themselves."""

Requirement = dict[str, Any]
"""A node selector requirement: `{key, operator, values}`."""


def gpu_resource(gpu: GPU) -> str:
    """The extended resource: `nvidia.com/gpu`, `amd.com/gpu`, `nvidia.com/mig-1g.10gb`."""
    if gpu.partition is not None:
        return f"nvidia.com/mig-{gpu.partition.profile.replace('+', '.')}"
    return _RESOURCE[gpu.vendor]


def gpu_limits(gpu: GPU | None) -> dict[str, str]:
    """What stands in the container's limits."""
    return {gpu_resource(gpu): str(gpu.count)} if gpu is not None else {}


def gpu_requirements(gpu: GPU | None) -> list[Requirement]:
    """What the labels of the node must say."""
    return [*_of_product(gpu), *_of_memory(gpu)] if gpu is not None else []


def gpu_tolerations(gpu: GPU | None) -> list[dict[str, Any]]:
    """The taints of nodes with such GPUs."""
    if gpu is None:
        return []
    # Nodes cut by MIG keep the taint of the whole GPU.
    taints = dict.fromkeys((gpu_resource(gpu), _RESOURCE[gpu.vendor]))
    return [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in taints]


def _of_product(gpu: GPU) -> list[Requirement]:
    if gpu.products:
        return [{"key": _PRODUCT[gpu.vendor], "operator": "In", "values": list(gpu.products)}]
    if gpu.vendor is not GPUVendor.NVIDIA:
        return []
    shared = {
        "key": f"{gpu_resource(gpu)}.sharing-strategy",
        "operator": "NotIn",
        "values": ["mps", "time-slicing"],
    }
    # Only nodes that offer MIG slices as `nvidia.com/gpu` have this label.
    sliced = {"key": "nvidia.com/gpu.slices.gi", "operator": "DoesNotExist"}
    return [shared] if gpu.partition is not None else [shared, sliced]


def _of_memory(gpu: GPU) -> list[Requirement]:
    if gpu.memory is None:
        return []
    mebibytes = math.ceil(parse_quantity(gpu.memory) * _ENOUGH / 2**20)
    return [{"key": _MEMORY, "operator": "Gt", "values": [str(mebibytes - 1)]}]
