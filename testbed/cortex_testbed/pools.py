"""Fake GPU nodes; shields the rest from kwok and from what GPU feature discovery writes on a node."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from cortex_testbed import binaries
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.paths import POOLS
from cortex_testbed.processes import Processes

FAKE: Final = ("kwok.x-k8s.io/node", "fake")
"""The annotation of every fake node: kwok looks after these alone."""
POOL_LABEL: Final = "testbed.cortex.datapunk.io/pool"
POD_CIDR: Final = "198.18.0.0/16"
"""Kept free for benchmarks: no pod address is a machine's."""


def nodes(file: Path = POOLS / "pools.yaml") -> list[dict[str, Any]]:
    """The Node objects of the pools in a file."""
    return [_node(pool, number) for pool in yaml.safe_load(file.read_text()) for number in range(pool["nodes"])]


def start(kubeconfig: Path, directory: Path) -> Processes:
    """Adds the nodes to a cluster, whose pods then run on them; returns when all are ready, with kwok's process, whose
    record and log lie in `directory`. Raises BedError."""
    processes = Processes(directory)
    processes.stop("kwok")
    kwok = binaries.ensure(["kwok"]) / "kwok"
    selector = f"--manage-nodes-with-annotation-selector={'='.join(FAKE)}"
    addresses = (f"--cidr={POD_CIDR}", "--node-ip=198.19.0.1", "--node-lease-duration-seconds=40")
    settings = (f"--kubeconfig={kubeconfig}", f"--config={POOLS / 'stages.yaml'}")
    processes.start("kwok", [kwok, *settings, "--manage-all-nodes=false", selector, *addresses])
    kubectl = Kubectl(kubeconfig)
    kubectl.apply(nodes())
    kubectl("wait", "--for=condition=Ready", "--timeout=60s", "nodes", f"--selector={POOL_LABEL}", timeout=70)
    return processes


def _node(pool: dict[str, Any], number: int) -> dict[str, Any]:
    name = f"{pool['name']}-{number}"
    common = {POOL_LABEL: pool["name"], "kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64"}
    labels = {**common, "kubernetes.io/os": "linux", **pool["labels"]}
    capacity = {name: str(amount) for name, amount in {"pods": 110, **pool["capacity"]}.items()}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": dict([FAKE]), "labels": {k: _text(v) for k, v in labels.items()}},
        "spec": {"taints": pool.get("taints", [])},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
