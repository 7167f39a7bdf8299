"""The CRDs as templates: the very schema of crds/*.yaml, kept at uninstall, installed only when asked."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from helm_chart import ROOT, objects, render

CRDS = sorted((ROOT / "charts/datapunk-cortex/files/crds").glob("*.yaml"))
KEEP = {"helm.sh/resource-policy": "keep"}


def crds(*words: str) -> list[dict[str, Any]]:
    return [o for o in objects(render(*words)) if o["kind"] == "CustomResourceDefinition"]


def test_the_spec_is_that_of_the_generated_files() -> None:
    generated = [yaml.safe_load(path.read_text()) for path in CRDS]

    assert {o["metadata"]["name"] for o in generated} == {
        "cortexindexes.cortex.datapunk.io",
        "cortexworkflows.cortex.datapunk.io",
    }
    assert [(o["metadata"]["name"], o["spec"]) for o in crds()] == [
        (o["metadata"]["name"], o["spec"]) for o in generated
    ]


@pytest.mark.parametrize(("keep", "annotations"), [("true", KEEP), ("false", None)])
def test_uninstall_leaves_them_unless_told_otherwise(keep: str, annotations: dict[str, str] | None) -> None:
    found = crds("--set", f"crds.keep={keep}")

    assert [o["metadata"].get("annotations") for o in found] == [annotations, annotations]
    assert {o["metadata"]["labels"]["app.kubernetes.io/managed-by"] for o in found} == {"Helm"}


def test_somebody_else_may_install_them() -> None:
    assert crds("--set", "crds.enabled=false") == []
