"""Jobs: one pod after the other until one succeeds, or too many have failed; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cortex_operator.cluster.port import Object

from cortex_cli.local.backoff import FIRST_SECONDS, MOST_SECONDS
from cortex_cli.local.pod_status import container_status, is_terminating, last_words, now

DEFAULT_BACKOFF_LIMIT: Final = 6
CONDITIONS: Final = ("Complete", "Failed")


@dataclass(frozen=True)
class Plan:
    """What to do with a Job: pods to make and to delete, its status, and when to look again (seconds; None: when
    something changes)."""

    create: bool
    delete: tuple[Object, ...]
    status: Object
    remove: bool = False
    again: float | None = None


def plan(job: Object, pods: list[Object]) -> Plan:
    """What to do next."""
    if finished(job):
        return _after(job)
    live = [pod for pod in pods if not is_terminating(pod)]
    if is_terminating(job):
        return Plan(False, tuple(live), _status(job, 0, 0, _failures(live)))
    active = [pod for pod in live if phase(pod) not in ("Succeeded", "Failed")]
    succeeded = [pod for pod in live if phase(pod) == "Succeeded"]
    failures = _failures(live)
    limit = int(job["spec"].get("backoffLimit", DEFAULT_BACKOFF_LIMIT))
    if succeeded:
        return Plan(False, (), _status(job, 0, 1, failures, ("Complete", "CompletionsReached", "")))
    if failures > limit:
        said = next((words for pod in reversed(live) if (words := last_words(pod))), "")
        why = f"{failures} tries have failed, {limit + 1} are allowed; it said last: {said or 'nothing'}"
        return Plan(False, tuple(active), _status(job, 0, 0, failures, ("Failed", "BackoffLimitExceeded", why)))
    if job["spec"].get("suspend"):
        return Plan(False, tuple(active), _status(job, 0, 0, failures))
    wait = 0.0 if active else _wait(live, failures)
    create = not active and wait <= 0
    return Plan(create, (), _status(job, int(bool(active) or create), 0, failures), again=wait if wait > 0 else None)


def finished(job: Object) -> bool:
    """Whether the Job has ended, well or not."""
    return any(c["type"] in CONDITIONS and c["status"] == "True" for c in job.get("status", {}).get("conditions", []))


def phase(pod: Object) -> str:
    """The pod's phase."""
    return str(pod.get("status", {}).get("phase", "Pending"))


def _failures(pods: list[Object]) -> int:
    """Failed pods, and starts again within a pod (restartPolicy OnFailure)."""
    failed = sum(phase(pod) == "Failed" for pod in pods)
    return failed + sum(int(container_status(pod).get("restartCount", 0)) for pod in pods)


def _wait(pods: list[Object], failures: int) -> float:
    if not failures:
        return 0.0
    ended = [
        container_status(pod).get("state", {}).get("terminated", {}).get("finishedAt", "")
        for pod in pods
        if phase(pod) == "Failed"
    ]
    return min(MOST_SECONDS, FIRST_SECONDS * 2.0**failures) - _since(max(ended, default=""))


def _after(job: Object) -> Plan:
    ttl = job["spec"].get("ttlSecondsAfterFinished")
    if ttl is None:
        return Plan(False, (), job["status"])
    left = float(ttl) - _since(job["status"].get("completionTime") or _last_change(job))
    return Plan(False, (), job["status"], remove=left <= 0, again=left if left > 0 else None)


def _last_change(job: Object) -> str:
    return max(str(c["lastTransitionTime"]) for c in job["status"]["conditions"])


def _since(moment: str) -> float:
    if not moment:
        return float("inf")
    then = datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return (datetime.now(UTC) - then).total_seconds()


def _status(job: Object, active: int, succeeded: int, failed: int, end: tuple[str, str, str] | None = None) -> Object:
    before = job.get("status", {})
    status: Object = {"startTime": before.get("startTime", now())}
    status |= {"active": active, "succeeded": succeeded, "failed": failed}
    if end:
        type_, reason, message = end
        condition = {"type": type_, "status": "True", "reason": reason, "message": message}
        status["conditions"] = [{**condition, "lastTransitionTime": now()}]
        if type_ == "Complete":
            status["completionTime"] = now()
    return status
