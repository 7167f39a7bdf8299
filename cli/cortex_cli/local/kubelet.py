"""One pod as a supervised process: started, probed, started again, stopped, its status written to the store."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from cortex_operator.cluster.port import Cluster, NotFound, Object, ObjectKey

from cortex_cli.local import volumes
from cortex_cli.local.backoff import Backoff
from cortex_cli.local.environment import (
    INHERITED,
    ContainerConfigError,
    PortInUse,
    container_command,
    container_environment,
)
from cortex_cli.local.launch import LaunchError
from cortex_cli.local.pod_status import ContainerStatus, is_terminating
from cortex_cli.local.ports import holder, is_free
from cortex_cli.local.probes import Prober
from cortex_cli.local.processes import Process, Processes, ProcessSpec
from cortex_cli.local.templates import named_ports
from cortex_cli.local.watch_probes import watch_probes

MANAGER: Final = "cortex-kubelet"
CONFIG_RETRY_SECONDS: Final = 1.0
LEAVE_SECONDS: Final = 0.2
"""From the moment that a pod's endpoint is not ready any more to the SIGTERM: clients turn elsewhere first."""


@dataclass(frozen=True)
class Node:
    """What the pods of this machine share."""

    cluster: Cluster
    processes: Processes
    volumes: Path
    catalogue: Path

    async def lookup(self, kind: str, namespace: str, name: str) -> Object | None:
        """A Secret or ConfigMap, or None."""
        try:
            return await self.cluster.get(ObjectKey("v1", kind, namespace, name))
        except NotFound:
            return None


def process_name(pod: Object) -> str:
    """What the pod's process, record and log are called."""
    return f"{pod['metadata']['namespace']}.{pod['metadata']['name']}"


class PodWorker:
    """Runs one pod, from its creation until its process has ended for good."""

    def __init__(self, node: Node, pod: Object) -> None:
        self._node = node
        self._pod = pod
        self._key = ObjectKey.of(pod)
        container = pod["spec"]["containers"][0]
        self._status = ContainerStatus(container["name"], container.get("image", ""))
        self._process: Process | None = None
        self._changed = asyncio.Event()
        self._leaving = False
        self._task = asyncio.create_task(self._run(), name=f"pod {self._key}")

    @property
    def ports(self) -> set[int]:
        """The ports that the pod has here."""
        return set(named_ports(self._pod).values())

    def update(self, pod: Object) -> None:
        """The pod as it is in the store now."""
        if is_terminating(pod) and not self._leaving:
            self._leaving = True
            self._changed.set()

    def poke(self) -> None:
        """A Secret or ConfigMap changed: the environment may differ now."""
        self._changed.set()

    async def stop(self) -> None:
        """Ends the process without touching the store: the whole cluster stops."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if self._process is not None:
            await self._process.stop()
            self._node.processes.forget(process_name(self._pod))

    async def abandon(self) -> None:
        """Stops looking after the process, which goes on."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        backoff = Backoff()
        while not self._leaving:
            began = time.monotonic()
            try:
                spec = await self._spec()
                self._process = await self._adopt(spec) or self._start(spec)
            except (ContainerConfigError, LaunchError) as error:
                await self._refuse(getattr(error, "reason", "RunContainerError"), str(error))
                continue
            except (KeyError, TypeError, ValueError, OSError) as error:
                await self._refuse("RunContainerError", f"the pod cannot be run as it is written: {error!r}")
                continue
            restart_now = await self._attend(self._process, spec.digest)
            self._process = None
            if self._leaving or restart_now:
                continue
            if await self._finished():
                break
            await self._back_off(backoff.after(began))
        if self._leaving:
            await self._leave()

    async def _refuse(self, reason: str, message: str) -> None:
        self._status.wait(reason, message)
        await self._write()
        await self._pause(CONFIG_RETRY_SECONDS)

    async def _spec(self) -> ProcessSpec:
        pod, node = self._pod, self._node
        mounts = await volumes.mount(pod, node.volumes, node.lookup)
        rewrite = partial(volumes.rewrite, mounts=mounts)
        env = await container_environment(pod, node.catalogue, node.lookup, rewrite)
        command = container_command(pod, rewrite)
        own = {name: value for name, value in env.items() if name not in INHERITED}
        manifest = {**pod, "metadata": {k: v for k, v in pod["metadata"].items() if k in _KEPT}}
        manifest.pop("status", None)
        return ProcessSpec(
            name=process_name(pod),
            command=command,
            env=env,
            cwd=node.volumes,
            digest=hashlib.sha256(json.dumps([command, own], sort_keys=True).encode()).hexdigest(),
            grace_seconds=float(pod["spec"].get("terminationGracePeriodSeconds", 30)),
            details={"pod": manifest, "ports": named_ports(pod)},
        )

    async def _adopt(self, spec: ProcessSpec) -> Process | None:
        record = self._node.processes.record(spec.name)
        process = self._node.processes.adopt(record) if record else None
        if process is not None and process.record.digest != spec.digest:
            await process.stop()
            return None
        return process

    def _start(self, spec: ProcessSpec) -> Process:
        for port in self._pod["spec"]["containers"][0].get("ports", []):
            number = int(port["containerPort"])
            if not is_free(number):
                raise PortInUse(_taken(number, port))
        return self._node.processes.start(spec)

    async def _attend(self, process: Process, digest: str) -> bool:
        """Until the process has ended. True when it is to start again at once."""
        container = self._pod["spec"]["containers"][0]
        self._status.run(process.pid, ready="readinessProbe" not in container and "startupProbe" not in container)
        await self._write()
        prober = Prober(named_ports(self._pod))
        probes = asyncio.create_task(watch_probes(container, prober, self._set_ready))
        outdated, unhealthy = False, ""
        try:
            while not process.exited.done() and not self._leaving and not outdated and not unhealthy:
                self._changed.clear()
                change = asyncio.create_task(self._changed.wait())
                ends: set[asyncio.Future[Any]] = {process.exited, change, probes}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
                unhealthy = probes.result() if probes.done() else ""
                outdated = await self._differs(digest)
        finally:
            probes.cancel()
            await prober.close()
        await self._end(process, unhealthy)
        return outdated

    async def _differs(self, digest: str) -> bool:
        try:
            return not self._leaving and (await self._spec()).digest != digest
        except ContainerConfigError:
            return False  # it began with what it needed, and goes on

    async def _end(self, process: Process, unhealthy: str) -> None:
        if self._leaving:
            self._status.set_ready(False, "it is being deleted")
            await self._write()
            await asyncio.sleep(LEAVE_SECONDS)
        await process.stop()
        self._node.processes.forget(process_name(self._pod))
        said = self._node.processes.last_line(process_name(self._pod))
        self._status.end(process.exited.result(), f"{unhealthy}; {said}" if unhealthy else said)
        if not self._leaving:
            await self._write()

    async def _finished(self) -> bool:
        code = self._status.last_state["terminated"]["exitCode"]
        policy = self._pod["spec"].get("restartPolicy", "Always")
        if policy == "Always" or (policy == "OnFailure" and code != 0):
            return False
        self._status.phase = "Succeeded" if code == 0 else "Failed"
        await self._write()
        while not self._leaving:
            self._changed.clear()
            await self._changed.wait()
        return True

    async def _back_off(self, seconds: float) -> None:
        ended = self._status.last_state["terminated"]
        self._status.wait(
            "CrashLoopBackOff",
            f"it ended with exit code {ended['exitCode']} and starts again in {seconds:.1f} s; it said last: "
            f"{ended['message'] or 'nothing'}; log: {self._node.processes.log(process_name(self._pod))}",
        )
        await self._write()
        await self._pause(seconds, only_leaving=True)
        self._status.restarts += 1

    async def _pause(self, seconds: float, only_leaving: bool = False) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    self._changed.clear()
                    await self._changed.wait()
                    if self._leaving or not only_leaving:
                        return

    async def _leave(self) -> None:
        volumes.remove(self._pod, self._node.volumes)
        self._node.processes.prune_logs()
        pod = {**self._pod, "metadata": {k: v for k, v in self._pod["metadata"].items() if k in _KEPT}}
        pod["metadata"]["finalizers"] = []
        with contextlib.suppress(NotFound):
            await self._node.cluster.get(self._key)
            await self._node.cluster.apply(pod, field_manager="cortex-pods")

    async def _set_ready(self, ready: bool, why_not: str) -> None:
        before = self._status.pod_status()
        self._status.set_ready(ready, why_not)
        if self._status.pod_status() != before:
            await self._write()

    async def _write(self) -> None:
        with contextlib.suppress(NotFound):
            await self._node.cluster.patch_status(self._key, self._status.pod_status(), field_manager=MANAGER)


_KEPT: Final = ("name", "namespace", "labels", "annotations", "ownerReferences", "finalizers")


def _taken(number: int, port: Object) -> str:
    remedy = "stop it, or choose another port"
    if "hostPort" in port:
        remedy = f"stop it, or choose another port (cortex up --{port.get('name', 'http')}-port PORT)"
    return f"port {number} ({port.get('name', 'unnamed')}) is held by {holder(number)}; {remedy}"
