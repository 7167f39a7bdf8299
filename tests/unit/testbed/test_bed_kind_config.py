"""kind-config.yaml is what kind itself takes: read by kind's own parser, with nothing of Docker."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cortex_testbed import binaries
from cortex_testbed.paths import KIND_CONFIG


def load(file: Path) -> subprocess.CompletedProcess[str]:
    program = binaries.ensure(["kind-config"]) / "kind-config"
    return subprocess.run([program, file], capture_output=True, text=True, check=False, timeout=30)


def test_kind_takes_it() -> None:
    done = load(KIND_CONFIG)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{KIND_CONFIG}: 4 nodes\n"


def test_its_gpu_nodes_are_labelled_and_tainted_alike() -> None:
    workers = [node for node in yaml.safe_load(KIND_CONFIG.read_text())["nodes"] if node.get("labels")]
    tainted = [yaml.safe_load(patch) for node in workers for patch in node["kubeadmConfigPatches"]]
    keys = [taint["key"] for patch in tainted for taint in patch["nodeRegistration"]["taints"]]
    assert keys == ["nvidia.com/gpu", "amd.com/gpu"]
    for key, worker in zip(keys, workers, strict=True):
        assert all(label.startswith(key.removesuffix("gpu")) for label in worker["labels"])
        assert all(isinstance(value, str) for value in worker["labels"].values())


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["nodes", 0, "role"], "worker", "must have at least one control-plane node"),
        (["nodes", 1, "role"], "gpu", "is not a valid node role"),
        (["nodes", 1, "lables"], {}, "field lables not found"),
        (["apiVersion"], "kind.x-k8s.io/v1", "unknown apiVersion"),
    ],
)
def test_mistake_is_refused(tmp_path: Path, path: list[Any], value: object, words: str) -> None:
    place = content = yaml.safe_load(KIND_CONFIG.read_text())
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    wrong = tmp_path / "kind-config.yaml"
    wrong.write_text(yaml.safe_dump(content))
    done = load(wrong)
    assert done.returncode == 1
    assert words in done.stderr
