"""Which ingest Jobs there must be. Pure.

A revision that is Building always has one, the current one while many documents wait; the pods embed the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from cortex_operator.cluster import Object, ObjectKey
from cortex_operator.dataplane import Description
from cortex_operator.manifests.labels import REVISION_LABEL
from cortex_operator.manifests.origin import JOB_DIGEST
from cortex_operator.reconcile.pods import culprit, is_working
from cortex_operator.reconcile.verdict import revision

MANY_WAITING: Final = 1_000
"""More documents than this are embedded by a Job."""
RETRY_AFTER: Final = timedelta(minutes=5)
"""A Job that failed is made again after this time."""
_MAKES_PODS_IN: Final = timedelta(seconds=15)
"""A Job that has none after this time is refused them; usually it has one at once."""


class JobPhase(StrEnum):
    """Where a Job is."""

    ACTIVE = "Active"
    COMPLETE = "Complete"
    FAILED = "Failed"


def needed(description: Description, desired: str) -> tuple[str, ...]:
    """The revisions that need a Job."""
    return tuple(
        r.id
        for r in description.revisions
        if (r.phase == "Building" and r.id == desired)
        or (r.id == description.current_revision and (r.waiting or 0) > MANY_WAITING)
    )


def missing_jobs(description: Description, desired: str, jobs: tuple[Object, ...]) -> tuple[str, ...]:
    """The revisions that need a Job and have none, finished or not."""
    have = {_revision(job) for job in jobs}
    return tuple(id for id in needed(description, desired) if id not in have)


def doomed_jobs(
    description: Description,
    desired: str,
    jobs: tuple[Object, ...],
    pods: tuple[Object, ...],
    make: Callable[[str], Object],
    now: datetime,
) -> tuple[tuple[ObjectKey, str], ...]:
    """Jobs to delete, with their uid: of revisions that nobody wants, finished ones that are needed again, and those
    without a pod that works that would be made otherwise now. `pods`: of all of them; `make`: the Job of a revision."""
    return tuple(
        (ObjectKey.of(job), job["metadata"]["uid"])
        for job in jobs
        if "deletionTimestamp" not in job["metadata"]
        and (_is_doomed(description, desired, job, now) or _is_outdated(job, pods, make))
    )


def _is_doomed(description: Description, desired: str, job: Object, now: datetime) -> bool:
    id = _revision(job)
    if id not in (desired, description.current_revision):
        return True
    if id not in needed(description, desired):
        return False
    match phase(job):
        case JobPhase.COMPLETE:
            return True
        case JobPhase.FAILED:
            return now - _finished_at(job) >= RETRY_AFTER
        case JobPhase.ACTIVE:
            return False


def _is_outdated(job: Object, pods: tuple[Object, ...], make: Callable[[str], Object]) -> bool:
    """A Job cannot be changed: one that waits with a mistake that is corrected since would do so for ever, and one that
    failed by it would be tried again minutes later only."""
    if phase(job) is JobPhase.COMPLETE or any(map(is_working, _pods_of(job, pods))):
        return False
    made = _notes(make(_revision(job)))[JOB_DIGEST]
    return _notes(job).get(JOB_DIGEST, made) != made


def working_jobs(jobs: tuple[Object, ...]) -> tuple[tuple[ObjectKey, str], ...]:
    """Jobs that have not ended, with their uid; not those that are going."""
    there = (job for job in working(jobs) if "deletionTimestamp" not in job["metadata"])
    return tuple((ObjectKey.of(job), job["metadata"]["uid"]) for job in there)


def working(jobs: tuple[Object, ...]) -> tuple[Object, ...]:
    """Jobs that have not ended: they may make pods yet."""
    return tuple(job for job in jobs if phase(job) is JobPhase.ACTIVE)


def hindrance(revision: str, jobs: tuple[Object, ...], pods: tuple[Object, ...], now: datetime) -> str:
    """Why the Job of a revision does not get on, by its pods or because it has none, as a sentence; empty when it does
    or there is none."""
    for job in working(jobs):
        if _revision(job) != revision or any(map(is_working, own := _pods_of(job, pods))):
            continue
        if why := (culprit(own) or "") if own else _without_pods(job, now):
            return f"Job {job['metadata']['name']} does not get on: {why}"
    return ""


def _without_pods(job: Object, now: datetime) -> str:
    meta, counts = job["metadata"], job.get("status") or {}
    if job["spec"].get("suspend"):
        return "it is suspended (spec.suspend), until its queue admits it or who suspended it resumes it"
    since = datetime.fromisoformat(meta["creationTimestamp"]).astimezone(UTC)
    if counts.get("active") or counts.get("failed") or now - since < _MAKES_PODS_IN:
        return ""
    return (
        "the cluster makes no pod for it; see the quotas and policies of the namespace, and what kubectl -n "
        f"{meta['namespace']} describe job {meta['name']} tells"
    )


def failure(description: Description, desired: str, jobs: tuple[Object, ...]) -> str:
    """Why the desired revision is not built though it is Building; empty when nothing failed."""
    found = revision(description, desired)
    if found is None or found.phase != "Building":
        return ""
    failed = next((job for job in jobs if _revision(job) == desired and phase(job) is JobPhase.FAILED), None)
    if failed is None:
        return ""
    meta = failed["metadata"]
    said = next((c.get("message") for c in _conditions(failed) if c.get("type") == "Failed"), "") or "no reason given"
    said += f": {found.message}" if found.message else ""
    return (
        f"Job {meta['name']} failed: {said}; see its log; it is tried again after 5 minutes, at once when the spec "
        f"changes what it is made of, or by kubectl -n {meta['namespace']} delete job {meta['name']}"
    )


def phase(job: Object) -> JobPhase:
    """Where a Job is, by its conditions."""
    true = {c.get("type") for c in _conditions(job) if c.get("status") == "True"}
    if "Complete" in true:
        return JobPhase.COMPLETE
    return JobPhase.FAILED if "Failed" in true else JobPhase.ACTIVE


def _conditions(job: Object) -> Iterator[dict[str, Any]]:
    yield from (job.get("status") or {}).get("conditions") or ()


def _pods_of(job: Object, pods: tuple[Object, ...]) -> list[Object]:
    uid = job["metadata"]["uid"]
    return [pod for pod in pods if any(o["uid"] == uid for o in pod["metadata"].get("ownerReferences") or ())]


def _notes(job: Object) -> dict[str, str]:
    notes: dict[str, str] = job["metadata"].get("annotations") or {}
    return notes


def _revision(job: Object) -> str:
    return str(job["metadata"].get("labels", {}).get(REVISION_LABEL, ""))


def _finished_at(job: Object) -> datetime:
    times = [c["lastTransitionTime"] for c in _conditions(job) if c.get("lastTransitionTime")]
    text = max(times, default=job["metadata"]["creationTimestamp"])
    return datetime.fromisoformat(text).astimezone(UTC)
