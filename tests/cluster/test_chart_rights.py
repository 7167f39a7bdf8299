"""Operator and gateway at work as the chart sets them up: its settings, its ServiceAccounts, its rights in a namespace
and no others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from cortex_cli.local.ports import free_port
from cortex_testbed.kubectl import Kubectl
from helm_chart import ROOT, TRIAL, installed


@pytest.fixture
def release(api_server: Path, namespace: str) -> Iterator[None]:
    """Serves its own namespace alone, which has the two Secrets."""
    with installed(
        api_server,
        namespace,
        "--values",
        TRIAL,
        values={"watchNamespaces": [namespace], "resourceNamespaces": [namespace]},
    ):
        yield


def as_account(kubectl: Kubectl, account: str, namespace: str, directory: Path) -> Path:
    """A kubeconfig for a ServiceAccount."""
    config = yaml.safe_load(Path(kubectl.kubeconfig).read_text())
    token = kubectl("create", "token", account, f"--namespace={namespace}").strip()
    for user in config["users"]:
        user["user"] = {"token": token}
    path = directory / f"{account}.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def settings(kubectl: Kubectl, deployment: str, namespace: str) -> dict[str, str]:
    """The plain environment of a Deployment's container; its namespace by its field."""
    found = kubectl.get("deployment", deployment, f"--namespace={namespace}")
    env = {e["name"]: e.get("value", "") for e in found["spec"]["template"]["spec"]["containers"][0]["env"]}
    return {**{name: value for name, value in env.items() if value}, "CORTEX_NAMESPACE": namespace}


@contextmanager
def running(module: str, kubectl: Kubectl, name: str, namespace: str, directory: Path, **env: str) -> Iterator[Path]:
    """A process as in the Deployment's pod; its log. It has to end with 0 at SIGTERM."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("CORTEX_")}
    kubeconfig = as_account(kubectl, name, namespace, directory)
    given = {**plain, **settings(kubectl, name, namespace), **env, "KUBECONFIG": str(kubeconfig)}
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", module], env=given, stdout=output, stderr=output)
    try:
        yield log
        assert process.poll() is None, log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def forbidden(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if "forbidden" in line.lower()]


@pytest.mark.usefixtures("release")
def test_the_operator_does_its_work_with_the_rights_of_the_chart(
    kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    where = f"--namespace={namespace}"
    ports = {"CORTEX_LISTEN_HOST": "127.0.0.1", "CORTEX_PORT_METRICS": "0"}
    with running("cortex_operator", kubectl, "datapunk-cortex-operator", namespace, tmp_path, **ports) as log:
        kubectl("apply", f"--filename={ROOT / 'examples/quickstart'}", where)
        for name in ("deployment/handbook-search", "service/handbook-search-headless", "deployment/answers-graph"):
            kubectl("wait", "--for=create", name, where, "--timeout=55s")
        for resource in ("cortexindex/handbook", "cortexworkflow/answers"):
            kubectl("wait", "--for=jsonpath={.status.observedGeneration}=1", resource, where, "--timeout=55s")
        for replicas, verb in ((2, "create"), (1, "delete")):
            kubectl("scale", "cortexindex/handbook", f"--replicas={replicas}", where)
            kubectl("wait", f"--for={verb}", "poddisruptionbudget/handbook-search", where, "--timeout=55s")
        kubectl("delete", "deployment/answers-graph", where)
        kubectl("wait", "--for=create", "deployment/answers-graph", where, "--timeout=55s")

    assert forbidden(log) == []


@pytest.mark.usefixtures("release")
def test_the_gateway_sees_what_its_rights_show(kubectl: Kubectl, namespace: str, tmp_path: Path) -> None:
    kubectl("apply", f"--filename={ROOT / 'examples/quickstart/index.yaml'}", f"--namespace={namespace}")
    http = free_port()
    ports = {"CORTEX_LISTEN_HOST": "127.0.0.1", "CORTEX_PORT_HTTP": str(http)}
    ports |= {"CORTEX_PORT_GRPC": "0", "CORTEX_PORT_METRICS": "0"}
    with running("cortex_workloads.gateway", kubectl, "datapunk-cortex-api", namespace, tmp_path, **ports) as log:
        found = indexes(http, 60)

    assert [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in found] == [(namespace, "handbook")]
    assert forbidden(log) == []


def indexes(port: int, seconds: float) -> list[dict[str, Any]]:
    """What the gateway lists, as soon as it lists something."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/indexes", timeout=30) as reply:
                found: list[dict[str, Any]] = json.load(reply)["items"]
        except OSError:
            found = []
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
