"""`cortex gpus` over the fake pools of a real API server, also as a plugin of kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from builders import a_cortex_index_manifest
from cortex_kinds.index import CortexIndex
from cortex_operator.manifests import ReleaseSettings, index_objects
from cortex_testbed import binaries
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.pools import POOL_LABEL

ROOT = Path(__file__).parents[2]
RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A folder with the commands that the package installs."""
    for name, target in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"].items():
        module, _, function = target.partition(":")
        script = tmp_path / name
        script.write_text(f"#!{sys.executable}\nfrom {module} import {function}\n{function}()\n")
        script.chmod(0o755)
    return tmp_path


def run(command: list[str], kubeconfig: Path, plugins: Path, code: int = 0) -> str:
    env = {**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": f"{plugins}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def apply(kubectl: Kubectl, namespace: str, name: str, gpu: dict[str, Any]) -> None:
    manifest = a_cortex_index_manifest(metadata__namespace=namespace, metadata__name=name, spec={"gpu": gpu})
    kubectl.apply([manifest], f"--namespace={namespace}")
    stored = CortexIndex.model_validate(kubectl.get(f"cortexindex/{name}", f"--namespace={namespace}"))
    kubectl.apply(index_objects(stored, RELEASE), f"--namespace={namespace}")


def test_the_ledger_names_holders_and_what_waits(
    api_server: Path, pools: dict[str, list[str]], kubectl: Kubectl, namespace: str, plugins: Path
) -> None:
    apply(kubectl, namespace, "papers", {"products": ["NVIDIA-H100-80GB-HBM3"]})
    apply(kubectl, namespace, "notes", {"products": ["NVIDIA-B200"]})
    waits = "--selector=app.kubernetes.io/instance=notes"
    kubectl("wait", "--for=create", "pod", waits, f"--namespace={namespace}", "--timeout=55s")
    kubectl("rollout", "status", "deployment/papers-search", f"--namespace={namespace}", "--timeout=60s")

    found = json.loads(run(["cortex", "gpus", "-o", "json", "--pool-label", POOL_LABEL], api_server, plugins))

    rows = {(row["node"], row["resource"]): row for row in found["nodes"]}
    h100 = rows[(pools["h100"][0], "nvidia.com/gpu")]
    assert (h100["pool"], h100["kind"], h100["capacity"]) == ("h100", "Whole", 8)
    (holder,) = [each for each in h100["holders"] if each["namespace"] == namespace]
    assert (holder["kind"], holder["name"], holder["count"]) == ("index", "papers", 1)
    assert h100["free"] == 8 - sum(each["count"] for each in h100["holders"])
    (waiting,) = [each for each in found["waiting"] if each["namespace"] == namespace]
    assert (waiting["kind"], waiting["name"], waiting["resource"]) == ("index", "notes", "nvidia.com/gpu")
    assert "(NVIDIA-B200 asked)" in waiting["why"]

    table = run([str(binaries.ensure(["kubectl"]) / "kubectl"), "cortex", "gpus"], api_server, plugins)
    assert table.startswith("POOL")
    assert f"index {namespace}/papers in papers-search-" in table
    assert f"index {namespace}/notes" in table


def test_who_may_not_list_nodes_is_told_what_is_needed(
    api_server: Path, kubectl: Kubectl, namespace: str, plugins: Path, tmp_path: Path
) -> None:
    kubectl("create", "serviceaccount", "nobody", f"--namespace={namespace}")
    token = kubectl("create", "token", "nobody", f"--namespace={namespace}").strip()
    config = json.loads(kubectl("config", "view", "--raw", "-o", "json"))
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    mine = tmp_path / "nobody.kubeconfig"
    mine.write_text(json.dumps(config))

    assert "needs the right to list nodes, and pods of all namespaces" in run(["cortex", "gpus"], mine, plugins, code=1)
    assert "-o yaml is not known" in run(["cortex", "gpus", "-o", "yaml"], mine, plugins, code=1)
