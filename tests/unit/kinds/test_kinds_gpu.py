"""What `spec.gpu` allows."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_workflow
from pydantic import ValidationError

GOOD: list[dict[str, Any]] = [
    {},
    {"vendor": "AMD", "count": 8, "products": ["AMD_Instinct_MI300X_OAM"]},
    {"memory": "80G", "products": ["NVIDIA-A100-SXM4-80GB"]},
    {"partition": {"mode": "MIG", "profile": "1g.10gb"}, "count": 2},
    {"partition": {"profile": "1g.5gb+me"}},
    {"sharing": "Exclusive", "count": 4},
    {"pool": "research"},
    {"sharing": "MPS", "memory": "20G"},
    {"vendor": "Intel", "driver": "xe", "count": 2},
]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"vendor": "Other"}, "'NVIDIA', 'AMD' or 'Intel'"),
    ({"vendor": "Intel", "memory": "16G"}, "name products"),
    ({"vendor": "AMD", "sharing": "Any"}, "sharing is for vendor NVIDIA only"),
    ({"sharing": "TimeSliced", "count": 2}, "two shares can be of the same GPU"),
    ({"sharing": "Half"}, "'Exclusive'"),
    ({"driver": "xe"}, "driver is for vendor Intel only"),
    ({"vendor": "Intel", "driver": "amdgpu"}, "'i915' or 'xe'"),
    ({"count": 0}, "greater than or equal to 1"),
    ({"count": 65}, "less than or equal to 64"),
    ({"memory": "0Gi"}, "pattern"),
    ({"memory": "lots"}, "pattern"),
    ({"memory": "80"}, "pattern"),
    ({"vendor": "AMD", "memory": "80G"}, "name products"),
    ({"vendor": "AMD", "partition": {"profile": "1g.10gb"}}, "partition is for vendor NVIDIA only"),
    ({"memory": "10G", "partition": {"profile": "1g.10gb"}}, "the profile says how much memory"),
    ({"partition": {"profile": "10gb"}}, "pattern"),
    ({"partition": {"mode": "MPS", "profile": "1g.10gb"}}, "'MIG'"),
    ({"products": ["NVIDIA H100"]}, "pattern"),
    ({"products": [f"p{n}" for n in range(17)]}, "at most 16"),
    ({"pool": "Research"}, "pattern"),
]


@pytest.mark.parametrize("gpu", GOOD)
def test_both_kinds_take_a_gpu(gpu: dict[str, Any]) -> None:
    for resource in (a_cortex_index(spec__gpu=gpu), a_cortex_workflow(spec__gpu=gpu)):
        assert resource.spec.gpu is not None
        assert resource.spec.gpu.count == gpu.get("count", 1)


@pytest.mark.parametrize(("gpu", "message"), BAD)
def test_what_cannot_work_is_refused_with_the_reason(gpu: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        a_cortex_index(spec__gpu=gpu)


@pytest.mark.parametrize("field", ["requests", "limits"])
@pytest.mark.parametrize("name", ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "amd.com/gpu", "gpu.intel.com/xe"])
def test_a_gpu_among_the_resources_is_refused_and_the_right_field_named(field: str, name: str) -> None:
    with pytest.raises(ValidationError, match=rf"spec\.gpu, not by resources\.{field}"):
        a_cortex_index(spec__resources={field: {name: "1"}})


def test_no_gpu_is_asked_for_by_itself() -> None:
    assert a_cortex_index().spec.gpu is None
    assert "gpu" not in a_cortex_index().spec.to_manifest()
