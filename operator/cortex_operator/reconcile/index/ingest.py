"""Which ingest Jobs there must be. Pure.

A revision that is Building always has one, the current one while many documents wait; the pods embed the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from cortex_operator.cluster import Object, ObjectKey
from cortex_operator.dataplane import Description
from cortex_operator.manifests.labels import REVISION_LABEL
from cortex_operator.reconcile.verdict import revision

MANY_WAITING: Final = 1_000
"""More documents than this are embedded by a Job."""
RETRY_AFTER: Final = timedelta(minutes=5)
"""A Job that failed is made again after this time."""


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
    description: Description, desired: str, jobs: tuple[Object, ...], now: datetime
) -> tuple[tuple[ObjectKey, str], ...]:
    """Jobs to delete, with their uid: of revisions that nobody wants, and finished ones that are needed again."""
    return tuple(
        (ObjectKey.of(job), job["metadata"]["uid"])
        for job in jobs
        if "deletionTimestamp" not in job["metadata"] and _is_doomed(description, desired, job, now)
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


def working_jobs(jobs: tuple[Object, ...]) -> tuple[tuple[ObjectKey, str], ...]:
    """Jobs that have not ended, with their uid."""
    return tuple(
        (ObjectKey.of(job), job["metadata"]["uid"])
        for job in jobs
        if "deletionTimestamp" not in job["metadata"] and phase(job) is JobPhase.ACTIVE
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
        f"Job {meta['name']} failed: {said}; see its log, and delete it to try at once "
        f"(kubectl -n {meta['namespace']} delete job {meta['name']}), else it is tried again after 5 minutes"
    )


def phase(job: Object) -> JobPhase:
    """Where a Job is, by its conditions."""
    true = {c.get("type") for c in _conditions(job) if c.get("status") == "True"}
    if "Complete" in true:
        return JobPhase.COMPLETE
    return JobPhase.FAILED if "Failed" in true else JobPhase.ACTIVE


def _conditions(job: Object) -> Iterator[dict[str, Any]]:
    yield from (job.get("status") or {}).get("conditions") or ()


def _revision(job: Object) -> str:
    return str(job["metadata"].get("labels", {}).get(REVISION_LABEL, ""))


def _finished_at(job: Object) -> datetime:
    times = [c["lastTransitionTime"] for c in _conditions(job) if c.get("lastTransitionTime")]
    text = max(times, default=job["metadata"]["creationTimestamp"])
    return datetime.fromisoformat(text).astimezone(UTC)
