"""Doubles for tests of the operator: pods that answer over real gRPC, and the controllers that make pods."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import Any

import grpc
from cortex_operator.cluster import Cluster, Invalid, NotFound, Object, ObjectKey
from datapunk.cortex import control_pb2
from datapunk.cortex.control_pb2_grpc import ControlServiceServicer, add_ControlServiceServicer_to_server
from objects import owned_by

Phase = control_pb2.RevisionPhase


class LakeDouble:
    """What a Lake says about one resource: revisions by id, newest first."""

    def __init__(self) -> None:
        self.revisions: dict[str, control_pb2.Revision] = {}
        self.documents = 0
        self.reachable = True
        self.refuse = ""
        self.ensured: list[tuple[str, int]] = []

    @property
    def current(self) -> str:
        return next((r.id for r in self.revisions.values() if r.phase == Phase.REVISION_PHASE_CURRENT), "")

    def ensure(self, order: control_pb2.EnsureRevision) -> control_pb2.Revision:
        self.ensured.append((order.id, order.retain))
        phase = Phase.REVISION_PHASE_BUILDING if self.current not in ("", order.id) else Phase.REVISION_PHASE_CURRENT
        found = self.revisions.pop(order.id, None)
        if found is None or found.phase == Phase.REVISION_PHASE_RETAINED:
            found = control_pb2.Revision(id=order.id, phase=phase)
        self.revisions = {
            order.id: found,
            **{k: r for k, r in self.revisions.items() if r.phase != Phase.REVISION_PHASE_BUILDING},
        }
        return found

    def promote(self, revision: str) -> None:
        for each in self.revisions.values():
            if each.phase == Phase.REVISION_PHASE_CURRENT:
                each.phase = Phase.REVISION_PHASE_RETAINED
        self.revisions[revision].phase = Phase.REVISION_PHASE_CURRENT


class PodDouble(ControlServiceServicer):
    """A ControlService on a free port of this machine; one process serves the pods of every resource."""

    def __init__(self) -> None:
        self.lakes: dict[str, LakeDouble] = {}
        self.port = 0
        self._server = grpc.aio.server()

    def lake(self, name: str) -> LakeDouble:
        return self.lakes.setdefault(name, LakeDouble())

    async def start(self, address: str = "127.0.0.1") -> None:
        add_ControlServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"{address}:0")
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    async def Describe(self, request: Any, context: Any) -> control_pb2.DescribeResponse:
        lake = self.lake(request.resource.name)
        if not lake.reachable:
            lost = control_pb2.Dependency(
                name="Lake", reason="LakeUnreachable", message="10.0.0.9:5432 does not answer"
            )
            return control_pb2.DescribeResponse(pod="pod-a", dependencies=[lost])
        return control_pb2.DescribeResponse(
            pod="pod-a",
            lake_read=True,
            revisions=lake.revisions.values(),
            current_revision=lake.current,
            documents=lake.documents,
        )

    async def Command(self, request: Any, context: Any) -> control_pb2.CommandResponse:
        lake = self.lake(request.resource.name)
        if lake.refuse:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, lake.refuse)
        if not lake.reachable:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the Lake does not answer")
        return control_pb2.CommandResponse(revision=lake.ensure(request.ensure_revision))


class ControllersDouble:
    """Makes the pods of Deployments, as the controllers and kubelets of a cluster do, all of them ready."""

    def __init__(self, cluster: Cluster, port: int) -> None:
        self._cluster = cluster
        self._port = port
        self.ready = True

    async def run(self) -> None:
        async with aclosing(self._cluster.watch("apps/v1", "Deployment")) as events:
            async for event in events:
                with suppress(NotFound, Invalid):
                    await self.settle(event.object["metadata"]["namespace"], event.object["metadata"]["name"])

    async def settle(self, namespace: str, name: str) -> None:
        """Makes the pods of one Deployment, and its status, as they are when everything has come up."""
        deployment = await self._cluster.get(ObjectKey("apps/v1", "Deployment", namespace, name))
        wanted = deployment["spec"]["replicas"]
        old = await self._pods(deployment)
        for pod in old[wanted:]:
            await self._cluster.delete(ObjectKey.of(pod))
        for number in range(wanted):
            await self._pod(deployment, f"{name}-{number}")
        await self._endpoints(deployment)
        ready = wanted if self.ready else 0
        await self._cluster.patch_status(
            ObjectKey.of(deployment),
            {
                "observedGeneration": deployment["metadata"]["generation"],
                "replicas": wanted,
                "updatedReplicas": wanted,
                "readyReplicas": ready,
                "availableReplicas": ready,
            },
        )

    async def _pods(self, deployment: Object) -> list[Object]:
        meta = deployment["metadata"]
        labels = deployment["spec"]["selector"]["matchLabels"]
        return await self._cluster.list("v1", "Pod", namespace=meta["namespace"], labels=labels)

    async def _pod(self, deployment: Object, name: str) -> None:
        template = deployment["spec"]["template"]
        meta = {**template["metadata"], "name": name, "namespace": deployment["metadata"]["namespace"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
        await self._cluster.apply(owned_by(pod, deployment), field_manager="kubelet")
        condition = {"type": "Ready", "status": "True" if self.ready else "False"}
        await self._cluster.patch_status(ObjectKey.of(pod), {"phase": "Running", "conditions": [condition]})

    async def _endpoints(self, deployment: Object) -> None:
        meta = deployment["metadata"]
        headless = f"{meta['name']}-headless"
        slices = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{headless}-double",
                "namespace": meta["namespace"],
                "labels": {"kubernetes.io/service-name": headless},
            },
            "addressType": "IPv4",
            "ports": [{"name": "control", "port": self._port, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": self.ready}}],
        }
        await self._cluster.apply(owned_by(slices, deployment), field_manager="kubelet")


class CountingCluster:
    """A cluster that counts what is really written."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.writes: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    async def apply(self, obj: Object, **options: Any) -> Any:
        result = await self._cluster.apply(obj, **options)
        if result.value != "Unchanged":
            self.writes.append(f"apply {ObjectKey.of(obj)}")
        return result

    async def delete(self, key: ObjectKey, **options: Any) -> None:
        self.writes.append(f"delete {key}")
        await self._cluster.delete(key, **options)

    async def patch_status(self, key: ObjectKey, status: Object, **options: Any) -> bool:
        # A call is a request to an API server, whether it changes anything or not.
        self.writes.append(f"status {key}")
        return await self._cluster.patch_status(key, status, **options)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
