"""GPUs by Dynamic Resource Allocation: the template of a pod's claim, and what the pod says of it.

Shields everybody else from how NVIDIA's DRA driver names devices, their attributes and their capacity.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from cortex_kinds.gpu import GPU, Allocation

from cortex_operator.manifests.gpu import least_mebibytes
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.names import bounded
from cortex_operator.manifests.optional import CLAIM_TEMPLATE
from cortex_operator.manifests.release import ReleaseSettings

_DRIVER: Final = "gpu.nvidia.com"
_WHOLE, _SLICE = "gpu.nvidia.com", "mig.nvidia.com"
"""DeviceClasses that the driver brings."""
_CLAIM: Final = "gpu"
"""What a pod calls its claim, and the claim its one request."""


def is_claimed(gpu: GPU | None) -> bool:
    """Whether the GPUs are asked for by a claim."""
    return gpu is not None and gpu.allocation is Allocation.DRA


def claim_templates(part: Part, name: str, release: ReleaseSettings) -> tuple[dict[str, Any], ...]:
    """The ResourceClaimTemplate of the pods of `name`. It cannot be changed, so another one has another name: pods of
    the template before keep theirs."""
    gpu = part.resource.spec.gpu
    if gpu is None or not is_claimed(gpu) or CLAIM_TEMPLATE not in release.served:
        return ()
    api_version, kind = CLAIM_TEMPLATE
    template = {"metadata": {"labels": part.selector}, "spec": _claim(gpu)}
    metadata = part.metadata(template_name(name, gpu))
    return ({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": template},)


def template_name(name: str, gpu: GPU) -> str:
    """Of the template: follows from what it asks for."""
    digest = hashlib.sha256(json.dumps(_claim(gpu), sort_keys=True).encode()).hexdigest()[:8]
    return bounded(name, f"-gpu-{digest}")


def pod_claims(gpu: GPU | None, name: str) -> dict[str, Any]:
    """Fields of the pod: each gets a claim of its own."""
    if gpu is None or not is_claimed(gpu):
        return {}
    return {"resourceClaims": [{"name": _CLAIM, "resourceClaimTemplateName": template_name(name, gpu)}]}


def container_claims(gpu: GPU | None) -> dict[str, Any]:
    """Fields of the container's resources."""
    return {"claims": [{"name": _CLAIM}]} if is_claimed(gpu) else {}


def unclaimable(gpu: GPU | None, release: ReleaseSettings) -> str:
    """That the cluster has no claims, though GPUs are asked for so; else empty. Without nodes they are kept."""
    if not is_claimed(gpu) or CLAIM_TEMPLATE in release.served or release.gpu_pools is None:
        return ""
    version, kind = CLAIM_TEMPLATE
    return (
        f"spec.gpu.allocation is DRA, and the cluster does not serve {kind} ({version}): that takes Kubernetes 1.34 or "
        "newer; upgrade it, or set spec.gpu.allocation to ExtendedResource"
    )


def claim_words(gpu: GPU) -> str:
    """What is claimed, in words: `2 gpu.nvidia.com devices with 80G`."""
    words = f"{gpu.count} {_device_class(gpu)} device{'s' if gpu.count > 1 else ''}"
    words += f" of profile {gpu.partition.profile}" if gpu.partition else ""
    words += f" with {gpu.memory}" if gpu.memory else ""
    return words + (f" of {' or '.join(gpu.products)}" if gpu.products else "")


def _claim(gpu: GPU) -> dict[str, Any]:
    exactly: dict[str, Any] = {
        "deviceClassName": _device_class(gpu),
        "allocationMode": "ExactCount",
        "count": gpu.count,
    }
    if selectors := _selectors(gpu):
        exactly["selectors"] = [{"cel": {"expression": each}} for each in selectors]
    return {"devices": {"requests": [{"name": _CLAIM, "exactly": exactly}]}}


def _device_class(gpu: GPU) -> str:
    return _SLICE if gpu.partition is not None else _WHOLE


def _selectors(gpu: GPU) -> list[str]:
    found = []
    if gpu.memory is not None:
        enough = f"quantity('{least_mebibytes(gpu.memory)}Mi')"
        found.append(f"device.capacity['{_DRIVER}'].memory.compareTo({enough}) >= 0")
    if gpu.products:
        # The driver has the product's own name; labels of nodes, which `products` are, cannot hold its spaces.
        names = ", ".join(f"'{product}'" for product in gpu.products)
        found.append(f"device.attributes['{_DRIVER}'].productName.replace(' ', '-') in [{names}]")
    if gpu.partition is not None:
        found.append(f"device.attributes['{_DRIVER}'].profile == '{gpu.partition.profile}'")
    return found
