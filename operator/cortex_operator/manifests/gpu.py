"""GPUs of a pod: the resource that it takes, the labels that its node must have, the taints that it tolerates.

Shields everybody else from how NVIDIA's and AMD's device plugins and feature discovery name things.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from cortex_kinds.base import parse_quantity
from cortex_kinds.gpu import GPU, GPUVendor

_RESOURCE: Final = {GPUVendor.NVIDIA: "nvidia.com/gpu", GPUVendor.AMD: "amd.com/gpu"}
_PRODUCT: Final = {GPUVendor.NVIDIA: "nvidia.com/gpu.product", GPUVendor.AMD: "amd.com/gpu.product-name"}
MEMORY_LABEL: Final = "nvidia.com/gpu.memory"
"""MiB of each GPU of a node."""
_SLICED: Final = "nvidia.com/gpu.slices.gi"
"""Only nodes that offer MIG slices as `nvidia.com/gpu` have this label."""
_SHARED: Final = {"mps": "MPS", "time-slicing": "TimeSliced"}
"""Values of the label RESOURCE.sharing-strategy where several pods get the same GPU."""
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


def gpu_requirements(gpu: GPU) -> list[Requirement]:
    """What the labels of the node must say."""
    return [*_of_product(gpu), *_of_memory(gpu)]


def gpu_scheduling(gpu: GPU | None) -> dict[str, Any]:
    """`affinity` and `tolerations` of the pod."""
    if gpu is None:
        return {}
    required = gpu_requirements(gpu)
    terms = {"nodeSelectorTerms": [{"matchExpressions": required}]}
    node_affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    # Nodes cut by MIG keep the taint of the whole GPU.
    taints = dict.fromkeys((gpu_resource(gpu), _RESOURCE[gpu.vendor]))
    tolerations = [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in taints]
    return {**({"affinity": node_affinity} if required else {}), "tolerations": tolerations}


def is_gpu(resource: str) -> bool:
    """Whether a resource of nodes and containers is GPUs or parts of them, of whichever vendor."""
    return resource.startswith(("nvidia.com/mig-", *_RESOURCE.values()))


def kind_of(resource: str, labels: Mapping[str, str]) -> str:
    """What a node with these labels gives as that resource: Whole GPUs, slices (MIG), or shares (TimeSliced, MPS)."""
    shared = _SHARED.get(labels.get(f"{resource}.sharing-strategy", ""))
    sliced = resource.startswith("nvidia.com/mig-") or _SLICED in labels
    return shared or ("MIG" if sliced else "Whole")


def product_of(resource: str, labels: Mapping[str, str]) -> str:
    """The product that a node with these labels gives as that resource; empty when they do not tell."""
    own = labels.get(f"{resource}.product", "")
    return own or next((labels[label] for vendor, label in _PRODUCT.items() if _is_of(resource, vendor, labels)), "")


def _is_of(resource: str, vendor: GPUVendor, labels: Mapping[str, str]) -> bool:
    return resource == _RESOURCE[vendor] and _PRODUCT[vendor] in labels


def _of_product(gpu: GPU) -> list[Requirement]:
    if gpu.products:
        return [{"key": _PRODUCT[gpu.vendor], "operator": "In", "values": list(gpu.products)}]
    if gpu.vendor is not GPUVendor.NVIDIA:
        return []
    shared = {
        "key": f"{gpu_resource(gpu)}.sharing-strategy",
        "operator": "NotIn",
        "values": sorted(_SHARED),
    }
    sliced = {"key": _SLICED, "operator": "DoesNotExist"}
    return [shared] if gpu.partition is not None else [shared, sliced]


def _of_memory(gpu: GPU) -> list[Requirement]:
    if gpu.memory is None:
        return []
    mebibytes = math.ceil(parse_quantity(gpu.memory) * _ENOUGH / 2**20)
    return [{"key": MEMORY_LABEL, "operator": "Gt", "values": [str(mebibytes - 1)]}]
