"""A release of the chart on the test bed, as the people around it use it: helm, kubectl, and questions by HTTP."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from cortex_cli.gateway import Gateway, GatewayError

T = TypeVar("T")

ROOT: Final = Path(__file__).parents[2]
QUICKSTART: Final = ROOT / "examples/quickstart"
CHART: Final = ROOT / "charts/datapunk-cortex"
KINDS: Final = "cortexindexes.cortex.datapunk.io,cortexworkflows.cortex.datapunk.io"


def wait_for(what: str, look: Callable[[], T | None], seconds: float, why: Callable[[], str] = lambda: "") -> T:
    """What `look` finds, as soon as it finds it; fails after `seconds` with what `why` says."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:.0f} s; {why()}")
        time.sleep(0.2)


@dataclass(frozen=True)
class Kube:
    """kubectl and helm on one cluster."""

    kubeconfig: Path
    bin: Path

    def run(self, program: str, *args: str, stdin: str | None = None, timeout: float = 120) -> str:
        """The program's standard output; fails with its error output."""
        command = [str(self.bin / program), "--kubeconfig", str(self.kubeconfig), *args]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise AssertionError(f"{program} {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def kubectl(self, *args: str, stdin: str | None = None, timeout: float = 120) -> str:
        """kubectl."""
        return self.run("kubectl", *args, stdin=stdin, timeout=timeout)

    def helm(self, *args: str, timeout: float = 300) -> str:
        """helm."""
        return self.run("helm", *args, timeout=timeout)

    def get(self, kind: str, name: str = "", namespace: str = "", **selector: str) -> Any:
        """One object, or the items of a list."""
        args = ["get", kind, *([name] if name else []), "-o", "json"]
        args += ["-n", namespace] if namespace else []
        args += ["-l", ",".join(f"{key}={value}" for key, value in selector.items())] if selector else []
        found = json.loads(self.kubectl(*args))
        return found if name else found["items"]

    def find(self, kind: str, name: str, namespace: str) -> Any | None:
        """One object, or None."""
        found = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(found) if found.strip() else None

    def apply(self, manifest: Any, namespace: str = "") -> None:
        """kubectl apply of an object or of a path."""
        args = ["apply", *(["-n", namespace] if namespace else [])]
        if isinstance(manifest, Path):
            self.kubectl(*args, "-f", str(manifest))
        else:
            self.kubectl(*args, "-f", "-", stdin=json.dumps(manifest))

    def patch(self, kind: str, name: str, namespace: str, change: dict[str, Any]) -> None:
        """A merge patch."""
        self.kubectl("patch", kind, name, "-n", namespace, "--type=merge", "-p", json.dumps(change))

    def namespace(self, name: str) -> None:
        """A namespace in which Restricted Pod Security is enforced."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    def pods(self, namespace: str, **labels: str) -> list[Any]:
        """Pods that are not being deleted, by labels of app.kubernetes.io: `component="search"`."""
        selector = {f"app.kubernetes.io/{key}": value for key, value in labels.items()}
        found = self.get("pods", namespace=namespace, **selector)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def condition(self, kind: str, name: str, namespace: str, type: str) -> dict[str, Any]:
        """A condition of a resource that is about its present generation; {} when there is none."""
        found = self.find(kind, name, namespace) or {}
        generation = found.get("metadata", {}).get("generation")
        status = found.get("status", {})
        if status.get("observedGeneration") != generation:
            return {}
        return next((c for c in status.get("conditions", ()) if c["type"] == type), {})

    def wait_ready(self, kind: str, name: str, namespace: str, seconds: float = 120) -> None:
        """Until Ready is True for the present generation and nothing moves."""

        def settled() -> bool:
            ready = self.condition(kind, name, namespace, "Ready").get("status") == "True"
            return ready and not self.condition(kind, name, namespace, "Reconciling")

        def why() -> str:
            status = (self.find(kind, name, namespace) or {}).get("status", {})
            said = (f"{c['type']}={c['status']} {c['reason']}: {c['message']}" for c in status.get("conditions", ()))
            return "\n  ".join(["it says", *said])

        wait_for(f"{kind} {namespace}/{name} Ready", settled, seconds, why)


def restarts(pods: list[Any]) -> dict[str, int]:
    """Restarts of every container, by pod/container; only those that did."""
    return {
        f"{pod['metadata']['name']}/{status['name']}": status["restartCount"]
        for pod in pods
        for status in pod["status"].get("containerStatuses", ())
        if status["restartCount"]
    }


def uids(objects: list[Any]) -> set[str]:
    """The uids of objects."""
    return {obj["metadata"]["uid"] for obj in objects}


@dataclass
class Load:
    """Questions asked all the time; what failed, and how many there were."""

    asked: int = 0
    failures: list[str] = field(default_factory=list)


@contextlib.contextmanager
def questions(url: str, index: str, workflow: str, *, threads: int = 2) -> Iterator[Load]:
    """Asks an index and a workflow (`NAMESPACE/NAME`) without a pause while the context is open."""
    load, stop, lock = Load(), threading.Event(), threading.Lock()

    def ask() -> None:
        with Gateway(url, timeout=30) as gateway:
            while not stop.is_set():
                begun = time.strftime("%H:%M:%S")
                try:
                    assert gateway.search(index, "how to compare two sequences")["hits"]
                    answered = [name for name, _ in gateway.run(workflow, {"question": "How are sequences compared?"})]
                    assert answered[-1] == "completed", answered
                except (GatewayError, AssertionError) as error:
                    with lock:
                        load.failures.append(f"{begun}: {error}")
                with lock:
                    load.asked += 2
                stop.wait(0.05)

    asking = [threading.Thread(target=ask, daemon=True) for _ in range(threads)]
    for thread in asking:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in asking:
            thread.join(60)
