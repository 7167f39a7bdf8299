"""Deployments and Jobs in the store become processes that answer, and the store says how they are."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from cortex_cli.local.kubelet import Node
from cortex_cli.local.processes import Processes
from cortex_cli.local.runner import Runner
from cortex_operator.cluster.memory import MemoryCluster
from cortex_operator.cluster.port import NotFound, ObjectKey
from grpc_health.v1 import health_pb2, health_pb2_grpc

WORKLOAD = """
import os, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer
print("version", os.environ.get("VERSION"), "says", os.environ.get("GREETING"), flush=True)
if os.environ.get("BROKEN"):
    sys.exit("it cannot work like this")
server, health = grpc.server(ThreadPoolExecutor(2)), HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(health, server)
server.add_insecure_port(os.environ["CORTEX_LISTEN_HOST"] + ":" + os.environ["CORTEX_PORT_GRPC"])
for service in ("", "liveness"):
    health.set(service, health_pb2.HealthCheckResponse.SERVING)
server.start()
end = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: end.set())
end.wait()
"""


class Local:
    """A store with a runner over it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workload = root / "workload.py"
        self.workload.write_text(WORKLOAD)
        self.start()

    def start(self) -> None:
        volumes = self.root / "volumes"
        volumes.mkdir(exist_ok=True)
        self.cluster = MemoryCluster()
        self.processes = Processes(self.root)
        self.runner = Runner(self.cluster, Node(self.cluster, self.processes, volumes, self.root / "catalogue.json"))
        self.task = asyncio.create_task(self.runner.run())

    async def cancel(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    def deployment(self, name: str = "web", replicas: int = 1, port: dict[str, Any] | None = None, **env: Any) -> Any:
        # Patient, as the workload takes its time to import and to answer on a busy machine.
        patience = {"timeoutSeconds": 10, "failureThreshold": 60}
        probe = {"grpc": {"port": 50052}, "periodSeconds": 1, **patience}
        container = {
            "name": "search",
            "command": ["python", str(self.workload)],
            "ports": [port or {"name": "grpc", "containerPort": 50052}],
            "env": [v if isinstance(v, dict) else {"name": n, "value": v} for n, v in env.items()],
            "startupProbe": probe,
            "readinessProbe": probe,
            "livenessProbe": {"grpc": {"port": 50052, "service": "liveness"}, **patience},
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [container], "terminationGracePeriodSeconds": 5},
                },
            },
        }

    async def pods(self, **labels: str) -> list[Any]:
        return await self.cluster.list("v1", "Pod", labels=labels)

    async def status(self, name: str = "web", kind: str = "Deployment") -> Any:
        api_version = "apps/v1" if kind == "Deployment" else "batch/v1"
        return (await self.cluster.get(ObjectKey(api_version, kind, "default", name))).get("status", {})

    async def ready(self, count: int, name: str = "web") -> bool:
        status = await self.status(name)
        return bool(status.get("readyReplicas") == count == status.get("updatedReplicas") == status.get("replicas"))


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
    async with asyncio.timeout(seconds):
        while not (value := await condition()):  # noqa: ASYNC110 - any condition, at any time
            await asyncio.sleep(0.02)
    return value


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Local]:
    local = Local(tmp_path)
    yield local
    await local.cancel()
    await local.runner.close()
    for record in local.processes.records():
        os.killpg(record.pid, signal.SIGKILL)


def pid_of(pod: Any) -> int:
    return int(pod["status"]["containerStatuses"][0]["containerID"].removeprefix("process://"))


def state_of(pod: Any) -> Any:
    return pod["status"]["containerStatuses"][0]["state"]


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web-headless", "namespace": "default"},
    "spec": {"selector": {"app": "web"}, "ports": [{"name": "grpc", "port": 50052, "targetPort": "grpc"}]},
}


async def test_a_deployment_serves_where_the_catalogue_says(local: Local) -> None:
    await local.cluster.apply(SERVICE)
    await local.cluster.apply(local.deployment(replicas=2))
    await until(lambda: local.ready(2))

    async def listed() -> list[Any]:
        found = json.loads((local.root / "catalogue.json").read_text())["endpointSlices"]
        return [s for s in found if s["endpoints"][0]["conditions"]["ready"]]

    slices = await until(lambda: _of_length(listed, 2))
    ports = {s["ports"][0]["port"] for s in slices}
    assert len(ports) == 2
    for port in ports:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def _of_length(listed: Callable[[], Awaitable[list[Any]]], count: int) -> list[Any]:
    found = await listed()
    return found if len(found) == count else []


async def test_scaling_and_deleting_end_processes(local: Local) -> None:
    await local.cluster.apply(local.deployment(replicas=2))
    await until(lambda: local.ready(2))
    await local.cluster.apply(local.deployment(replicas=1))
    await until(lambda: _of_length(local.pods, 1))
    (pod,) = await local.pods()
    await local.cluster.delete(ObjectKey("apps/v1", "Deployment", "default", "web"))

    async def gone() -> bool:
        return not await local.pods() and not local.processes.records()

    await until(gone)
    with pytest.raises(ProcessLookupError):
        os.kill(pid_of(pod), 0)


async def test_a_killed_process_is_ready_again_by_itself(local: Local) -> None:
    await local.cluster.apply(local.deployment())
    await until(lambda: local.ready(1))
    (before,) = await local.pods()
    os.kill(pid_of(before), signal.SIGKILL)

    async def again() -> Any:
        (pod,) = await local.pods()
        return pod if pod["status"]["containerStatuses"][0]["restartCount"] == 1 and await local.ready(1) else None

    after = await until(again)
    assert pid_of(after) != pid_of(before)
    last = after["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert last["exitCode"] == 137
    assert last["message"] == "version None says None"
    assert after["spec"]["containers"][0]["ports"] == before["spec"]["containers"][0]["ports"]


async def test_a_new_template_replaces_pods_and_never_serves_with_fewer(local: Local) -> None:
    await local.cluster.apply(SERVICE)
    await local.cluster.apply(local.deployment(replicas=2, VERSION="1"))
    await until(lambda: local.ready(2))
    old = {pod["metadata"]["name"] for pod in await local.pods()}
    serving: list[int] = []

    async def watch() -> None:
        async for _ in local.cluster.watch("v1", "Pod"):
            ready = [p for p in await local.pods() if _is_ready(p)]
            serving.append(len(ready))

    watcher = asyncio.create_task(watch())
    await local.cluster.apply(local.deployment(replicas=2, VERSION="2"))

    async def replaced() -> bool:
        names = {pod["metadata"]["name"] for pod in await local.pods()}
        return await local.ready(2) and len(names) == 2 and not names & old

    await until(replaced)
    watcher.cancel()
    assert min(serving) >= 2
    assert len(serving) > 4


def _is_ready(pod: Any) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


async def test_a_template_that_fails_leaves_what_serves_and_says_why(local: Local) -> None:
    await local.cluster.apply(local.deployment(VERSION="1"))
    await until(lambda: local.ready(1))
    await local.cluster.apply(local.deployment(VERSION="2", BROKEN="yes"))

    async def backs_off() -> Any:
        states = [state_of(p) for p in await local.pods() if "status" in p]
        return next((s["waiting"] for s in states if s.get("waiting", {}).get("reason") == "CrashLoopBackOff"), None)

    waiting = await until(backs_off)
    assert "it cannot work like this" in waiting["message"]
    assert "exit code 1" in waiting["message"]
    assert (await local.status())["readyReplicas"] == 1


async def test_a_missing_secret_is_named_and_awaited(local: Local) -> None:
    reference = {"name": "GREETING", "valueFrom": {"secretKeyRef": {"name": "cortex-lake", "key": "dsn"}}}
    await local.cluster.apply(local.deployment(GREETING=reference))

    async def waits() -> Any:
        return next((state_of(p)["waiting"] for p in await local.pods() if "waiting" in state_of(p)), None)

    async def refused() -> Any:
        pods = await local.pods()
        return pods and "status" in pods[0] and (await waits() or {}).get("message")

    message = await until(refused)
    assert (await waits())["reason"] == "CreateContainerConfigError"
    assert "Secret default/cortex-lake is not there" in message
    data = {"dsn": base64.b64encode(b"hello").decode()}
    await local.cluster.apply(_secret(data))
    await until(lambda: local.ready(1))
    (pod,) = await local.pods()
    log = local.processes.log(f"default.{pod['metadata']['name']}").read_text()
    assert "says hello" in log


def _secret(data: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "cortex-lake", "namespace": "default"},
        "data": data,
    }


async def test_a_changed_secret_starts_the_process_again(local: Local) -> None:
    await local.cluster.apply(_secret({"dsn": base64.b64encode(b"one").decode()}))
    reference = {"name": "GREETING", "valueFrom": {"secretKeyRef": {"name": "cortex-lake", "key": "dsn"}}}
    await local.cluster.apply(local.deployment(GREETING=reference))
    await until(lambda: local.ready(1))
    (pod,) = await local.pods()
    await local.cluster.apply(_secret({"dsn": base64.b64encode(b"two").decode()}))
    log = local.processes.log(f"default.{pod['metadata']['name']}")

    async def greeted() -> bool:
        return "says two" in log.read_text() and await local.ready(1)

    await until(greeted)


async def test_a_host_port_in_use_is_named_with_its_holder(local: Local) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        port = {"name": "http", "containerPort": number, "hostPort": number}
        await local.cluster.apply(local.deployment(port=port))

        async def refused() -> Any:
            pods = await local.pods()
            return pods and "status" in pods[0] and state_of(pods[0]).get("waiting", {}).get("message")

        message = await until(refused)
    assert f"port {number} (http) is held by pid {os.getpid()}" in message
    assert "--http-port" in message


def _job(name: str, code: int, **spec: Any) -> dict[str, Any]:
    command = [sys.executable, "-c", f"print('worked on it'); raise SystemExit({code})"]
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "ingest", "command": command}]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": template, **spec},
    }


async def test_a_job_completes_and_goes_after_its_time(local: Local) -> None:
    await local.cluster.apply(_job("ingest", 0))

    async def complete() -> Any:
        return (await local.status("ingest", "Job")).get("conditions")

    (condition,) = await until(complete)
    assert (condition["type"], condition["status"]) == ("Complete", "True")
    assert (await local.status("ingest", "Job"))["succeeded"] == 1
    await local.cluster.apply(_job("ingest", 0, ttlSecondsAfterFinished=0))

    async def gone() -> bool:
        with suppress(NotFound):
            return not await local.status("ingest", "Job")
        return not await local.pods()

    await until(gone)


async def test_a_job_fails_after_its_tries_with_its_last_words(local: Local) -> None:
    await local.cluster.apply(_job("ingest", 3, backoffLimit=1))

    async def ended() -> Any:
        return (await local.status("ingest", "Job")).get("conditions")

    (condition,) = await until(ended)
    assert (condition["type"], condition["reason"]) == ("Failed", "BackoffLimitExceeded")
    assert "worked on it" in condition["message"]
    assert (await local.status("ingest", "Job"))["failed"] == 2


async def test_the_next_runner_adopts_what_runs(local: Local) -> None:
    await local.cluster.apply(local.deployment())
    await until(lambda: local.ready(1))
    (before,) = await local.pods()
    await local.cancel()
    await local.runner.abandon()
    os.kill(pid_of(before), 0)
    local.start()
    await local.cluster.apply(local.deployment())
    await until(lambda: local.ready(1))
    (after,) = await local.pods()
    assert pid_of(after) == pid_of(before)
    assert after["metadata"]["name"] == before["metadata"]["name"]


async def test_the_next_runner_stops_what_nothing_wants(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    await local.cluster.apply(local.deployment())
    await until(lambda: local.ready(1))
    await local.cancel()
    await local.runner.abandon()
    monkeypatch.setattr("cortex_cli.local.runner.CLAIM_SECONDS", 0.1)
    local.start()

    async def gone() -> bool:
        return not local.processes.records()

    await until(gone)


async def test_volumes_are_directories_and_paths_lead_there(local: Local) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"}, "data": {"greeting": "good day"}}
    await local.cluster.apply(config)
    job = _job("reader", 0)
    pod = job["spec"]["template"]["spec"]
    words = {"name": "words", "items": [{"key": "greeting", "path": "said"}]}
    pod["volumes"] = [{"name": "words", "configMap": words}, {"name": "cache", "emptyDir": {}}]
    code = "import os; print(open(os.environ['FILE']).read()); open(os.environ['CACHE'] + '/x', 'w')"
    pod["containers"][0] |= {
        "command": [sys.executable, "-c", code],
        "volumeMounts": [{"name": "words", "mountPath": "/etc/words"}, {"name": "cache", "mountPath": "/cache"}],
        "env": [{"name": "FILE", "value": "/etc/words/said"}, {"name": "CACHE", "value": "/cache"}],
    }
    await local.cluster.apply(job)

    async def complete() -> Any:
        return (await local.status("reader", "Job")).get("succeeded")

    assert await until(complete) == 1
    (made,) = await local.pods()
    assert state_of(made)["terminated"]["message"] == "good day"


async def test_a_mounted_key_changes_under_a_process_that_runs(local: Local) -> None:
    def words(**data: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"}, "data": data}

    await local.cluster.apply(words(GREETING="hello", **{"said.json": "one"}))
    deployment = local.deployment(FILE="/etc/words/said")
    pod = deployment["spec"]["template"]["spec"]
    source = {"name": "words", "items": [{"key": "said.json", "path": "said"}], "optional": True}
    pod["volumes"] = [{"name": "words", "configMap": source}]
    pod["containers"][0] |= {
        "volumeMounts": [{"name": "words", "mountPath": "/etc/words"}],
        "envFrom": [{"configMapRef": {"name": "words"}}],
    }
    await local.cluster.apply(deployment)
    await until(lambda: local.ready(1))
    (begun,) = await local.pods()
    (file,) = local.root.rglob("said")
    assert file.read_text() == "one"

    for data, there in (({"said.json": "two"}, "two"), ({}, None), ({"said.json": "three"}, "three")):
        await local.cluster.apply(words(GREETING="hello", **data))

        async def follows(there: str | None = there) -> bool:
            return (file.read_text() if file.exists() else None) == there

        await until(follows)
    (now,) = await local.pods()
    assert (pid_of(now), now["metadata"]["name"]) == (pid_of(begun), begun["metadata"]["name"])


async def test_what_is_written_wrongly_does_not_stop_the_rest(local: Local) -> None:
    broken = {**local.deployment("broken"), "spec": {"replicas": 1}}
    odd = local.deployment("odd")
    odd["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "X", "valueFrom": {"secretKeyRef": {"key": "of nothing"}}}
    ]
    for manifest in (broken, odd, local.deployment()):
        await local.cluster.apply(manifest)
    await until(lambda: local.ready(1))

    async def refused() -> Any:
        pods = await local.pods(app="odd")
        return "status" in pods[0] and state_of(pods[0]).get("waiting", {}).get("reason") == "RunContainerError"

    await until(refused)
