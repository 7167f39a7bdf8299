"""What has to happen before a deleted resource may go: its pods end, a Job drops its data. One look, one step.

Shields the deletion from what can go wrong on the way: each step says what it waits for, or how it ended.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cortex_kinds.conditions import Reason
from cortex_kinds.index import CortexIndex
from cortex_kinds.workflow import CortexWorkflow

from cortex_operator.cluster import Forbidden, NotFound, Object, ObjectKey
from cortex_operator.manifests.cleanup import CERTIFICATES, DSN, URL, Target, cleanup_job, cleanup_secret
from cortex_operator.manifests.labels import INDEX_LABEL, Part
from cortex_operator.manifests.names import graph_name, search_name
from cortex_operator.reconcile.deletion.credentials import Values
from cortex_operator.reconcile.deletion.jobs import Jobs
from cortex_operator.reconcile.index.ingest import JobPhase, phase
from cortex_operator.reconcile.model import World
from cortex_operator.reconcile.observe import belongs_to, find, find_deployment, find_pods
from cortex_operator.reconcile.pods import has_ended
from cortex_operator.reconcile.words import counted

Resource = CortexIndex | CortexWorkflow
_COMPONENTS: Final = {"CortexIndex": ("search", "ingest"), "CortexWorkflow": ("graph",)}
_MOST_MARGIN: Final = 60.0


@dataclass(frozen=True)
class Wait:
    """What is waited for, and why it stays if the time for it runs out."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class End:
    """Nothing is waited for any more. `reason` and `message`: why the data stays; without a reason it does
    not, and a message says why there was nothing to drop."""

    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Times:
    """When the cleanup began, and when it is over, whatever has become of it."""

    began: datetime
    limit: float

    @property
    def end(self) -> datetime:
        """When the resource goes."""
        return self.began + timedelta(seconds=self.limit)

    @property
    def job_end(self) -> datetime:
        """When the Job's pod is gone: the name may be in use again soon after."""
        return self.end - timedelta(seconds=min(_MOST_MARGIN, self.limit / 10))

    @property
    def pods_end(self) -> datetime:
        """For how long pods are waited for; the drop is safe with those that never end."""
        return self.began + timedelta(seconds=self.limit / 2)


class Steps:
    """Of any deleted resource."""

    def __init__(self, world: World, jobs: Jobs) -> None:
        self._world, self._jobs = world, jobs

    async def step(self, resource: Resource, values: Values, times: Times, now: datetime) -> Wait | End:
        """One step. Raises Conflict, Invalid, Forbidden, NamespaceTerminating, Unavailable."""
        await self._stop(resource)
        pods = [pod["metadata"]["name"] for pod in await self._pods(resource)]
        if pods and now < times.pods_end:
            return Wait(Reason.PODS_STOPPING, f"{', '.join(sorted(pods)[:5])} must end before its data is dropped")
        target = target_of(resource)
        job = await find(self._world.cluster, self._jobs.key(target.job), unwatched=True)
        if job is None:
            return await self._begin(resource, target, values, times, now)
        await self._jobs.note(target)
        if phase(job) is JobPhase.ACTIVE and "deletionTimestamp" in job["metadata"]:
            return Wait(Reason.CLEANUP_STOPPING, f"Job {self._place(target)} was deleted, and another one takes over")
        match phase(job):
            case JobPhase.COMPLETE:
                return End()
            case JobPhase.FAILED:
                return End("CleanupFailed", f"Job {self._place(target)} failed: {_said(job)}; {self._log(target)}")
            case JobPhase.ACTIVE:
                return await self._go_on(target, job, values)

    async def _begin(
        self, resource: Resource, target: Target, values: Values, times: Times, now: datetime
    ) -> Wait | End:
        if DSN not in values:
            return await self._without_values(resource)
        before = times.job_end.timestamp()
        seconds = max(1, int(before - now.timestamp()))
        job = cleanup_job(target, self._world.release, before=before, seconds=seconds, trusts=CERTIFICATES in values)
        # An answer may be lost, and the Job be there all the same.
        await self._jobs.note(target)
        await self._world.cluster.apply(job)
        stored = await self._world.cluster.get(self._jobs.key(target.job), unwatched=True)
        return await self._go_on(target, stored, values)

    async def _go_on(self, target: Target, job: Object, values: Values) -> Wait:
        if DSN in values:
            await self._world.cluster.apply(cleanup_secret(target, self._world.release, {URL: "", **values}, job))
        failed = (job.get("status") or {}).get("failed") or 0
        tries = f", {counted(failed, 'try has', 'tries have')} failed" if failed else ""
        return Wait(Reason.CLEANUP_RUNNING, f"Job {self._place(target)} drops its data{tries}; {self._log(target)}")

    async def _without_values(self, resource: Resource) -> Wait | End:
        namespace, secret = resource.metadata.namespace, resource.spec.lake.secret_ref.name
        if not had_data(resource):
            return End(message="no pod ever told of data of it")
        if await self._is_terminating(namespace):
            return End("SecretNotFound", f"Secret {namespace}/{secret} was deleted before the data was dropped")
        lacks = f"Secret {namespace}/{secret} with the key dsn is not there"
        return Wait(Reason.SECRET_NOT_FOUND, f"{lacks}: create it again, so that the data can be dropped")

    async def _is_terminating(self, namespace: str) -> bool:
        try:
            found = await find(self._world.cluster, ObjectKey("v1", "Namespace", "", namespace), unwatched=True)
        except Forbidden:
            return False
        return found is not None and "deletionTimestamp" in found["metadata"]

    async def _stop(self, resource: Resource) -> None:
        """Ends what makes pods."""
        cluster, meta = self._world.cluster, resource.metadata
        name = search_name if resource.kind == "CortexIndex" else graph_name
        deployment = await find_deployment(cluster, meta.namespace, name(meta.name))
        makers = [deployment] if deployment is not None else []
        if resource.kind == "CortexIndex":
            makers += await cluster.list("batch/v1", "Job", namespace=meta.namespace, labels={INDEX_LABEL: meta.name})
        for obj in makers:
            if "deletionTimestamp" not in obj["metadata"] and belongs_to(obj, resource):
                with suppress(NotFound):
                    await cluster.delete(ObjectKey.of(obj), uid=obj["metadata"]["uid"])

    async def _pods(self, resource: Resource) -> list[Object]:
        return [
            pod
            for component in _COMPONENTS[resource.kind]
            for pod in await find_pods(self._world.cluster, Part(resource, component))
            if not has_ended(pod)
        ]

    def _place(self, target: Target) -> str:
        return f"{self._world.release.namespace}/{target.job}"

    def _log(self, target: Target) -> str:
        return f"see kubectl -n {self._world.release.namespace} logs job/{target.job}"


def target_of(resource: Resource) -> Target:
    """Whose data is to be dropped."""
    meta = resource.metadata
    return Target(resource.kind, meta.namespace, meta.name, meta.uid)


def had_data(resource: Resource) -> bool:
    """Whether a pod ever told of data of it."""
    return bool(resource.status.current_revision or resource.status.revisions)


def moment(text: str) -> datetime:
    """A time as Kubernetes writes it."""
    return datetime.fromisoformat(text).astimezone(UTC)


def _said(job: Object) -> str:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return next((c["message"] for c in conditions if c.get("type") == "Failed" and c.get("message")), "no reason given")
