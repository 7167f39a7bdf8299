"""Within a version no pod template changes: an operator of the same version must restart no pod.

The digests of a version that is out are never written anew. Of the version in work, which nobody runs yet, take its
entry away from golden/templates.json and run this with CORTEX_UPDATE_GOLDEN=1.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import yaml
from builders import a_cortex_index, a_cortex_workflow
from cortex_operator.manifests import ReleaseSettings, index_objects, workflow_objects
from cortex_operator.manifests.origin import TEMPLATE_DIGEST
from cortex_operator.manifests.release import VERSION
from podfields import every_field

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).with_name("golden") / "templates.json"
RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1", otlp_endpoint="http://traces:4317")
META = {"metadata__uid": "00000000-0000-4000-8000-000000000001", "metadata__namespace": "research"}
MIG = {"partition": {"mode": "MIG", "profile": "1g.10gb"}}


def digests() -> dict[str, str]:
    indexes = {"plain": {}, "every field": every_field(), "gpu": {"gpu": {"memory": "40Gi"}}, "mig": {"gpu": MIG}}
    made = {
        f"index, {name}": index_objects(a_cortex_index(**META, spec=spec), RELEASE) for name, spec in indexes.items()
    }
    workflows: dict[str, dict[str, Any]] = {"plain": {}, "exit": {"spec__execution": {"durability": "Exit"}}}
    for name, changes in workflows.items():
        made[f"workflow, {name}"] = workflow_objects(a_cortex_workflow(**META, **changes), RELEASE)
    deployments = {name: next(obj for obj in objects if obj["kind"] == "Deployment") for name, objects in made.items()}
    return {name: made["metadata"]["annotations"][TEMPLATE_DIGEST] for name, made in deployments.items()}


def test_no_pod_template_changes_within_a_version() -> None:
    golden = json.loads(GOLDEN.read_text())
    if os.environ.get("CORTEX_UPDATE_GOLDEN") and VERSION not in golden:
        golden[VERSION] = digests()
        GOLDEN.write_text(json.dumps(golden, indent=2) + "\n")
    assert VERSION in golden, f"no digests of {VERSION}: run CORTEX_UPDATE_GOLDEN=1 pytest {Path(__file__).name}"
    changed = [name for name, digest in digests().items() if golden[VERSION].get(name) != digest]
    assert not changed, (
        f"the pod template of {'; '.join(changed)} is another one than it was in version {VERSION}: pods would restart "
        "when an operator of the same version starts. Keep the template, or raise the version (pyproject.toml, "
        "Chart.yaml, manifests/release.py) and write its digests by CORTEX_UPDATE_GOLDEN=1"
    )


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((ROOT / "charts/datapunk-cortex/Chart.yaml").read_text())
    assert project["version"] == chart["version"] == chart["appVersion"] == VERSION


def test_a_release_has_another_id_when_its_pods_are_others() -> None:
    same = ReleaseSettings(
        RELEASE.search_image, RELEASE.graph_image, otlp_endpoint=RELEASE.otlp_endpoint, namespace="n"
    )
    assert RELEASE.id.startswith(f"{VERSION}-")
    assert same.id == RELEASE.id
    assert ReleaseSettings("registry.invalid/search:2", RELEASE.graph_image).id != RELEASE.id
