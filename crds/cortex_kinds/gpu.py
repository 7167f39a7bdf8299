"""`spec.gpu`: which GPUs each serving pod gets."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cortex_kinds.base import Model, Whole
from cortex_kinds.cel import Rule


class GPUVendor(StrEnum):
    """Who makes the GPU: NVIDIA (resource `nvidia.com/gpu`) or AMD (`amd.com/gpu`)."""

    NVIDIA = "NVIDIA"
    AMD = "AMD"


class Partition(Model):
    """A slice of a GPU with memory of its own."""

    mode: Literal["MIG"] = "MIG"
    """How the GPU is cut: Multi-Instance GPU."""
    profile: Annotated[str, Field(max_length=16, pattern=r"^[1-7]g\.[1-9][0-9]{0,2}gb(\+me)?$")]
    """The profile, as `nvidia-smi mig -lgip` names it: `1g.10gb`."""


class GPU(Model):
    """GPUs of one serving pod, on nodes that carry the labels of the vendor's feature discovery."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("!has(self.partition) || self.vendor == 'NVIDIA'", "partition is for vendor NVIDIA only", ".partition"),
        Rule(
            "!has(self.memory) || self.vendor == 'NVIDIA'",
            "memory is for vendor NVIDIA only: the labels of AMD's nodes do not tell it as a number; name products",
            ".memory",
        ),
        Rule(
            "!has(self.memory) || !has(self.partition)",
            "memory and partition exclude each other: the profile says how much memory there is",
            ".memory",
        ),
    )

    vendor: GPUVendor = GPUVendor.NVIDIA
    """Whose GPUs."""
    count: Annotated[int, Field(ge=1, le=64), Whole] = 1
    """GPUs, or partitions, of each pod; all on one node."""
    memory: Annotated[str, Field(max_length=16, pattern="^[1-9][0-9]{0,6}(M|Mi|G|Gi|T|Ti)$")] | None = None
    """Memory of each GPU, at least: `80G`. Nodes match from 95% of it on, as drivers keep some for themselves; vendors
    mean decimal units (an L4 of 24 GB has 22.5Gi)."""
    products: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=63, pattern="^[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?$")]],
        Field(max_length=16),
    ] = Field(default_factory=list)
    """One of these, as the nodes' label `nvidia.com/gpu.product` or `amd.com/gpu.product-name` says. Empty: any that
    the pod has to itself: no node that shares its GPUs (time slicing, MPS), none that offers MIG slices as
    `nvidia.com/gpu` (strategy single). Such a part is taken when its product stands here: `Tesla-T4-SHARED`,
    `NVIDIA-A100-SXM4-80GB-MIG-1g.10gb`."""
    partition: Partition | None = None
    """A slice in place of whole GPUs, on nodes that offer each profile as a resource of its own, such as
    `nvidia.com/mig-1g.10gb` (MIG strategy mixed); for strategy single see `products`."""
