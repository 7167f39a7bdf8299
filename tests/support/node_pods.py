"""Pods of the bed's own tests: as restricted as the strictest namespace wants, in an image of ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl

PORT = 8080
SERVER = f"""
import os, socket
server = socket.create_server(("", {PORT}))
print("listening", flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(os.environ["HOSTNAME"].encode())
    connection.close()
"""
SLEEPER = "import signal; signal.pause()"


def pod(name: str, namespace: str, image: str, program: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A pod that runs a Python program as nobody, with a read-only root; one that listens says so by a probe."""
    container: dict[str, Any] = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", program],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if program == SERVER:
        container["readinessProbe"] = {"tcpSocket": {"port": PORT}, "periodSeconds": 1}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name, **(labels or {})}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65534,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }


def service(name: str, namespace: str, app: str, *, headless: bool = False) -> dict[str, Any]:
    """A Service on SERVER's port in front of the pods with this label `app`."""
    spec = {"selector": {"app": app}, "ports": [{"port": PORT}], **({"clusterIP": "None"} if headless else {})}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def start(kubectl: Kubectl, namespace: str, objects: Sequence[Mapping[str, Any]]) -> None:
    """Applies them; returns when all the namespace's pods are ready."""
    kubectl.apply(objects)
    kubectl("wait", "--for=condition=Ready", "pods", "--all", f"--namespace={namespace}", "--timeout=45s")


def eventually(check: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Returns once it holds; a BedError on the way means that it does not hold yet."""
    deadline = time.monotonic() + seconds
    said = ""
    while time.monotonic() < deadline:
        try:
            if check():
                return
        except BedError as error:
            said = f": {error}"
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}{said}")


def addresses(kubectl: Kubectl, namespaces: Iterable[str]) -> dict[str, str]:
    """Pod name -> address."""
    pods = [pod for one in namespaces for pod in kubectl.get("pods", f"--namespace={one}")["items"]]
    return {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods}
