"""`python -m cortex_workloads.gateway` with the API server as its catalogue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cortex_cli.local.ports import free_port
from cortex_testbed.kubectl import Kubectl
from grpc_health.v1 import health_pb2, health_pb2_grpc

CORTEX = "cortex.datapunk.io/v1alpha1"
RESOURCES = ["cortexindexes", "cortexworkflows", "endpointslices"]


def free_ports(count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        found.append(free_port(frozenset(found)))
    return found


class Gateway:
    """The process, and what it says."""

    def __init__(self, directory: Path, kubeconfig: Path, *namespaces: str) -> None:
        self.http, self.grpc, metrics = free_ports(3)
        self.log = directory / "gateway.log"
        settings = {
            "WATCH_NAMESPACES": json.dumps(namespaces),
            "LISTEN_HOST": "0.0.0.0",
            "INSECURE_LISTEN": "true",
            "PORT_HTTP": self.http,
            "PORT_GRPC": self.grpc,
            "PORT_METRICS": metrics,
        }
        environment = {f"CORTEX_{key}": str(value) for key, value in settings.items()}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cortex_workloads.gateway"],
                env={"PATH": os.environ["PATH"], "KUBECONFIG": str(kubeconfig), **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def get(self, path: str, host: str = "cortex.example.org") -> tuple[int, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def until(self, what: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if what():
                    return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(f"not within {seconds} s: {self.log.read_text()}")

    def serving(self) -> bool:
        with grpc.insecure_channel(f"127.0.0.1:{self.grpc}") as channel:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def lines(self, level: str) -> list[str]:
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line["message"] for line in found if line["level"] == level]


Start = Callable[..., Gateway]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Gateway] = []

    def run(kubeconfig: Path, *namespaces: str) -> Gateway:
        started.append(Gateway(tmp_path, kubeconfig, *namespaces))
        return started[-1]

    yield run
    for gateway in started:
        gateway.process.kill()
        gateway.process.wait()


def test_it_serves_what_the_api_server_has(start: Start, api_server: Path, kubectl: Kubectl, namespace: str) -> None:
    gateway = start(api_server, namespace)
    gateway.until(lambda: gateway.get("/readyz")[0] == 200)
    assert gateway.serving()
    index = {"apiVersion": CORTEX, "kind": "CortexIndex", "metadata": {"name": "papers", "namespace": namespace}}
    kubectl.apply([index])
    where = f"/v1/namespaces/{namespace}/indexes/papers"
    gateway.until(lambda: gateway.get(where)[0] == 200)
    status, problem = gateway.get(f"/v1/namespaces/{namespace}/indexes/paper")
    assert status == 404
    assert f"{namespace}/papers" in problem["remedy"]


def test_without_rights_it_says_so_once_is_not_ready_and_gets_there(
    start: Start, api_server: Path, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    gateway = start(account(kubectl, api_server, namespace, tmp_path), namespace)

    def all_are_named() -> bool:
        told = gateway.get("/readyz")[1]["checks"]["Catalogue"]
        return told.get("reason") == "Forbidden" and all(f"{name}." in told["message"] for name in RESOURCES)

    gateway.until(all_are_named)
    assert gateway.get("/readyz")[0] == 503
    assert not gateway.serving()
    part = gateway.get("/healthz")[1]["parts"]["gateway"]
    assert (part["ok"], part["reason"]) == (False, "Forbidden")
    grant(kubectl, namespace)
    gateway.until(lambda: gateway.get("/readyz")[0] == 200)
    assert gateway.serving()
    lines = [line for line in gateway.lines("WARNING") if "does not let" in line]
    # More than one when the API server's answers come one by one; each tells of more than the one before.
    assert lines
    assert sorted(set(lines), key=lines.index) == lines
    assert all(f"system:serviceaccount:{namespace}:gateway" in line for line in lines)


def test_a_namespace_that_is_gone_does_not_keep_the_others_waiting(
    start: Start, api_server: Path, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    kubeconfig = account(kubectl, api_server, namespace, tmp_path)
    grant(kubectl, namespace)
    gateway = start(kubeconfig, namespace, f"{namespace}-gone")
    gateway.until(lambda: gateway.get("/readyz")[0] == 200)
    assert gateway.serving()
    assert gateway.get("/readyz")[1]["degraded"]
    part = gateway.get("/healthz")[1]["parts"]["gateway"]
    assert (part["ok"], part["reason"]) == (False, "Forbidden")
    assert gateway.get(f"/v1/namespaces/{namespace}/indexes/papers")[0] == 404
    status, problem = gateway.get(f"/v1/namespaces/{namespace}-gone/indexes/papers")
    assert (status, problem["reason"]) == (503, "NamespaceForbidden")


def account(kubectl: Kubectl, admin: Path, namespace: str, directory: Path) -> Path:
    """A kubeconfig of a ServiceAccount without any right."""
    kubectl("create", "serviceaccount", "gateway", f"--namespace={namespace}")
    token = kubectl("create", "token", "gateway", f"--namespace={namespace}").strip()
    file = directory / "gateway.kubeconfig"
    file.write_text(admin.read_text())
    own = Kubectl(file)
    own("config", "set-credentials", "gateway", f"--token={token}")
    own("config", "set-context", "--current", "--user=gateway")
    return file


def grant(kubectl: Kubectl, namespace: str) -> None:
    resources = "cortexindexes.cortex.datapunk.io,cortexworkflows.cortex.datapunk.io,endpointslices.discovery.k8s.io"
    where = f"--namespace={namespace}"
    kubectl("create", "role", "gateway", "--verb=get,list,watch", f"--resource={resources}", where)
    kubectl("create", "rolebinding", "gateway", "--role=gateway", f"--serviceaccount={namespace}:gateway", where)
