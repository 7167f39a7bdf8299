"""Kubelet and controllers over the store: Deployments, Jobs and Services become pods, processes and endpoints.

One pass looks at everything and does what is missing; whatever changes in the store asks for another pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from typing import Final

from cortex_kinds.base import API_VERSION
from cortex_operator.cluster.port import Cluster, Invalid, NotFound, Object, ObjectKey

from cortex_cli.local import catalogue, deployments, endpoints, jobs
from cortex_cli.local.kubelet import Node, PodWorker, process_name
from cortex_cli.local.ports import free_port
from cortex_cli.local.processes import Process
from cortex_cli.local.templates import HASH, adopted, named_ports, owner_key, pod_of, template_hash

log: Final = logging.getLogger("cortex.local.runner")
MANAGER: Final = "cortex-pods"
CLAIM_SECONDS: Final = 15.0
"""How long the pods of an earlier supervisor may wait for their Deployments and Jobs to be in the store again."""
WATCHED: Final = (
    ("apps/v1", "Deployment"),
    ("batch/v1", "Job"),
    ("v1", "Service"),
    ("v1", "Pod"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    (API_VERSION, "CortexIndex"),
    (API_VERSION, "CortexWorkflow"),
)
ENVIRONMENT: Final = ("Secret", "ConfigMap")


class Runner:
    """Runs what the store says, until it is cancelled; `close` or `abandon` decide what becomes of the processes."""

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self._cluster = cluster
        self._node = node
        self._workers: dict[ObjectKey, PodWorker] = {}
        self._ports: set[int] = set()
        self._dirty = asyncio.Event()
        self._unclaimed = _pods_of(node)
        self._claim_until = time.monotonic() + CLAIM_SECONDS

    async def run(self) -> None:
        """Watches and works; ends only by cancellation."""
        async with asyncio.TaskGroup() as tasks:
            for api_version, kind in WATCHED:
                tasks.create_task(self._watch(api_version, kind))
            if self._unclaimed:
                asyncio.get_running_loop().call_later(CLAIM_SECONDS, self._dirty.set)
            while True:
                await self._dirty.wait()
                self._dirty.clear()
                try:
                    await self._pass()
                except Exception:
                    log.exception("a pass failed; it is tried again")
                    self._again(1.0)

    async def close(self) -> None:
        """Stops all processes."""
        await asyncio.gather(*(worker.stop() for worker in self._workers.values()))
        self._workers.clear()

    async def abandon(self) -> None:
        """Leaves the processes to the next supervisor."""
        await asyncio.gather(*(worker.abandon() for worker in self._workers.values()))
        self._workers.clear()

    async def _watch(self, api_version: str, kind: str) -> None:
        async for _ in self._cluster.watch(api_version, kind):
            if kind in ENVIRONMENT:
                for worker in self._workers.values():
                    worker.poke()
            self._dirty.set()

    def _again(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._dirty.set)

    async def _pass(self) -> None:
        pods = await self._cluster.list("v1", "Pod")
        by_owner: dict[ObjectKey, list[Object]] = {}
        for pod in pods:
            if controller := owner_key(pod):
                by_owner.setdefault(controller, []).append(pod)
        for owner in await self._cluster.list("apps/v1", "Deployment") + await self._cluster.list("batch/v1", "Job"):
            key = ObjectKey.of(owner)
            control = self._deployment if key.kind == "Deployment" else self._job
            try:
                await control(owner, by_owner.get(key, []))
            except (Invalid, KeyError, TypeError, ValueError) as error:
                log.error("%s cannot be run as it is written: %r", key, error)  # the others still can
        await self._attend(await self._cluster.list("v1", "Pod"))
        await self._endpoints(await self._cluster.list("v1", "Pod"))
        await self._give_up_unclaimed()
        if not self._unclaimed:
            await catalogue.write(self._cluster, self._node.catalogue)

    async def _deployment(self, deployment: Object, pods: list[Object]) -> None:
        if await self._claim(deployment):
            return
        plan = deployments.plan(deployment, pods)
        digest = template_hash(deployment["spec"]["template"])
        name = deployment["metadata"]["name"]
        for _ in range(plan.create):
            await self._create(deployment, f"{name}-{digest}-{_suffix()}", {HASH: digest})
        await self._delete(*plan.delete)
        await self._status(deployment, deployments.status(deployment, pods))

    async def _job(self, job: Object, pods: list[Object]) -> None:
        if await self._claim(job):
            return
        plan = jobs.plan(job, pods)
        name = job["metadata"]["name"]
        if plan.create:
            await self._create(job, f"{name}-{_suffix()}", {"batch.kubernetes.io/job-name": name})
        await self._delete(*plan.delete)
        await self._status(job, plan.status)
        if plan.remove:
            await self._delete(job)
        if plan.again is not None:
            self._again(plan.again)

    async def _claim(self, owner: Object) -> bool:
        """Puts the owner's pods of an earlier supervisor into the store. True when there were some."""
        mine = [pod for pod in self._unclaimed.values() if owner_key(pod) == ObjectKey.of(owner)]
        for pod in mine:
            del self._unclaimed[process_name(pod)]
            self._ports |= set(named_ports(pod).values())
            await self._cluster.apply(adopted(pod, owner), field_manager=MANAGER)
        return bool(mine)

    async def _create(self, owner: Object, name: str, labels: dict[str, str]) -> None:
        await self._cluster.apply(pod_of(owner, name, labels, self._take_port), field_manager=MANAGER)

    def _take_port(self) -> int:
        port = free_port(frozenset(self._ports))
        self._ports.add(port)
        return port

    async def _delete(self, *objects: Object) -> None:
        for obj in objects:
            with contextlib.suppress(NotFound):
                await self._cluster.delete(ObjectKey.of(obj), uid=obj["metadata"]["uid"])

    async def _status(self, obj: Object, status: Object) -> None:
        with contextlib.suppress(NotFound):
            await self._cluster.patch_status(ObjectKey.of(obj), status, field_manager=MANAGER)

    async def _attend(self, pods: list[Object]) -> None:
        """One worker for each pod."""
        there = {ObjectKey.of(pod): pod for pod in pods}
        for key, pod in there.items():
            if key in self._workers:
                self._workers[key].update(pod)
            else:
                self._workers[key] = PodWorker(self._node, pod)
                self._workers[key].update(pod)
        for key in self._workers.keys() - there.keys():
            self._ports -= self._workers.pop(key).ports

    async def _endpoints(self, pods: list[Object]) -> None:
        wanted = {
            ObjectKey.of(made): made
            for service in await self._cluster.list("v1", "Service")
            for made in endpoints.slices(
                service, [p for p in pods if p["metadata"]["namespace"] == service["metadata"]["namespace"]]
            )
        }
        for made in wanted.values():
            await self._cluster.apply(made, field_manager=MANAGER)
        for found in await self._cluster.list("discovery.k8s.io/v1", "EndpointSlice"):
            if ObjectKey.of(found) not in wanted:
                await self._delete(found)

    async def _give_up_unclaimed(self) -> None:
        if not self._unclaimed or time.monotonic() < self._claim_until:
            return
        names, self._unclaimed = list(self._unclaimed), {}
        log.info("nothing wants these any more: %s", ", ".join(names))
        await asyncio.gather(*(_stop(self._node, name) for name in names))


async def _stop(node: Node, name: str) -> None:
    record = node.processes.record(name)
    process: Process | None = node.processes.adopt(record) if record else None
    if process is not None:
        await process.stop()
    node.processes.forget(name)


def _pods_of(node: Node) -> dict[str, Object]:
    """The pods that an earlier supervisor left running, by the name of their process."""
    return {record.name: record.details["pod"] for record in node.processes.records() if "pod" in record.details}


def _suffix() -> str:
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))
