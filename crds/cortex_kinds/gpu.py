"""`spec.gpu`: which GPUs each serving pod gets."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cortex_kinds.base import DNS_LABEL, Model, Whole
from cortex_kinds.cel import Rule


class GPUVendor(StrEnum):
    """Who makes the GPU: NVIDIA (resource `nvidia.com/gpu`), AMD (`amd.com/gpu`) or Intel (`gpu.intel.com/i915`)."""

    NVIDIA = "NVIDIA"
    AMD = "AMD"
    INTEL = "Intel"


class Allocation(StrEnum):
    """How pods get their GPUs: as a resource that the device plugin counts, or by claims of devices (DRA)."""

    EXTENDED_RESOURCE = "ExtendedResource"
    DRA = "DRA"


class Sharing(StrEnum):
    """Whether other pods use the same GPU."""

    EXCLUSIVE = "Exclusive"
    """None does."""
    TIME_SLICED = "TimeSliced"
    """By turns; nothing keeps pods from each other's memory."""
    MPS = "MPS"
    """At the same time, by NVIDIA's Multi-Process Service, each with its part of the memory."""
    ANY = "Any"
    """Whatever the node does."""


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
            "memory is for vendor NVIDIA only: other vendors' nodes do not tell it as a number; name products",
            ".memory",
        ),
        Rule(
            "!has(self.memory) || !has(self.partition)",
            "memory and partition exclude each other: the profile says how much memory there is",
            ".memory",
        ),
        Rule(
            "!has(self.sharing) || self.vendor == 'NVIDIA'",
            "sharing is for vendor NVIDIA only: the labels of other vendors' nodes do not tell it",
            ".sharing",
        ),
        Rule(
            "!has(self.sharing) || self.sharing == 'Exclusive' || self.count == 1",
            "count is 1 where GPUs may be shared: two shares can be of the same GPU, and no more than one of it",
            ".count",
        ),
        Rule("!has(self.driver) || self.vendor == 'Intel'", "driver is for vendor Intel only", ".driver"),
        Rule(
            "self.allocation != 'DRA' || self.vendor == 'NVIDIA'",
            "allocation DRA is for vendor NVIDIA only: set ExtendedResource for GPUs of other vendors",
            ".allocation",
        ),
        Rule(
            "self.allocation != 'DRA' || !has(self.sharing) || self.sharing == 'Exclusive'",
            "with allocation DRA each pod has its devices to itself: leave sharing out, or set ExtendedResource",
            ".sharing",
        ),
        Rule("self.allocation != 'DRA' || self.count <= 32", "with allocation DRA count is at most 32", ".count"),
        Rule(
            "self.allocation != 'DRA' || !has(self.products)"
            " || self.products.all(p, !p.endsWith('-SHARED') && !p.contains('-MIG-'))",
            "with allocation DRA products are those of whole GPUs; a slice is asked for by partition",
            ".products",
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
    """One of these, as the nodes' label `nvidia.com/gpu.product`, `amd.com/gpu.product-name` or
    `gpu.intel.com/product` says. Empty: any that the pod has to itself: no node that shares its GPUs (time slicing,
    MPS), none that offers MIG slices as `nvidia.com/gpu` (strategy single). Such a part is taken when its product
    stands here: `Tesla-T4-SHARED`, `NVIDIA-A100-SXM4-80GB-MIG-1g.10gb`."""
    partition: Partition | None = None
    """A slice in place of whole GPUs, on nodes that offer each profile as a resource of its own, such as
    `nvidia.com/mig-1g.10gb` (MIG strategy mixed); for strategy single see `products`."""
    sharing: Sharing | None = None
    """NVIDIA: whether other pods may use the same GPU, as the nodes' label `nvidia.com/gpu.sharing-strategy` says.
    Unset: Exclusive, but with `products` whatever their nodes do."""
    pool: Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)] | None = None
    """A pool of the platform team's, by its name in the release's values (`gpuPools`): its nodes alone, whose taints
    are tolerated."""
    allocation: Allocation = Allocation.EXTENDED_RESOURCE
    """DRA: by a ResourceClaimTemplate (resource.k8s.io/v1) for NVIDIA's DRA driver, in place of the device plugin and
    the labels of nodes; `memory`, `products` and `partition` are then asked of the devices."""
    driver: Literal["i915", "xe"] | None = None
    """Intel: the kernel driver of the nodes, whose resource is taken: `gpu.intel.com/i915` or `gpu.intel.com/xe`.
    Unset: i915."""
