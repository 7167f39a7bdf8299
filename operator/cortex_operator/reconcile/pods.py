"""Small questions about pods that return the culprit: which pod and container fail, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cortex_operator.cluster import Object

_IMAGE: Final = "check the image's name and that it can be pulled (spec.image)"
_REMEDIES: Final = {
    "ImagePullBackOff": _IMAGE,
    "ErrImagePull": _IMAGE,
    "InvalidImageName": _IMAGE,
    "ErrImageNeverPull": "load the image onto the node, or let it be pulled",
    "CreateContainerConfigError": "see that the Secrets that the container reads are there and have their keys",
    "CreateContainerError": "see the pod's events",
    "RunContainerError": "see the pod's events",
    "OOMKilled": "raise spec.resources.limits.memory",
    "CrashLoopBackOff": "see the log of the container's last run",
    "Error": "see the container's log",
    "Unschedulable": "free or add a node with room for spec.resources.requests, or lower them",
}
_LINE: Final = 300
_SETTLES: Final = timedelta(seconds=10)
"""Within which a kubelet tells that a pod is not ready, after a container of it was started again."""
PATIENCE: Final = timedelta(seconds=60)
"""How long a container may run before it is said that it is not ready; most take a few seconds."""


@dataclass(frozen=True)
class Culprit:
    """A pod that is not ready, why, and what to do. `container` is empty when it is the pod itself."""

    pod: str
    container: str
    reason: str
    message: str

    def __str__(self) -> str:
        where = f"pod {self.pod}" + (f", container {self.container}" if self.container else "")
        said = f": {self.message}" if self.message else ""
        remedy = _REMEDIES.get(self.reason)
        return f"{where}: {self.reason}{said}" + (f"; {remedy}" if remedy else "")


def culprit(pods: Iterable[Object]) -> Culprit | None:
    """The worst of the pods of the newest template: one that fails before one that waits, the newest first; None when
    none is to blame. What older pods suffer from may be mended already."""
    living = _newest_template(_not_ready(pods))
    return next((c for pod in living for c in _failing(pod)), None) or next(
        (c for pod in living if (c := _unscheduled(pod))), None
    )


def unready(pods: Iterable[Object], now: datetime) -> str:
    """Of the newest pod that runs for long without getting ready: which of its probes does not pass; else empty."""
    for pod in _not_ready(pods):
        for status in _containers(pod):
            since = ((status.get("state") or {}).get("running") or {}).get("startedAt")
            if since and not status.get("ready") and now - datetime.fromisoformat(since) >= PATIENCE:
                return _waits_for_probe(pod, status, since)
    return ""


def _waits_for_probe(pod: Object, status: dict[str, Any], since: str) -> str:
    containers = (pod.get("spec") or {}).get("containers") or ()
    container: dict[str, Any] = next((c for c in containers if c["name"] == status["name"]), {})
    kind = "startup" if status.get("started") is False and "startupProbe" in container else "readiness"
    asked = (container.get(f"{kind}Probe") or {}).get("grpc") or {}
    where = f" (gRPC port {asked['port']}, service {asked.get('service', '')!r})" if asked else ""
    return (
        f"pod {pod['metadata']['name']}, container {status['name']}: runs since {since} but is not ready: its {kind} "
        f"probe{where} does not pass; see its log, and whether it listens on that port"
    )


def _not_ready(pods: Iterable[Object]) -> list[Object]:
    newest = sorted(pods, key=lambda pod: pod["metadata"].get("creationTimestamp", ""), reverse=True)
    return [pod for pod in newest if not is_terminating(pod) and not is_ready(pod)]


def _newest_template(newest_first: list[Object]) -> list[Object]:
    return [pod for pod in newest_first if _template(pod) == _template(newest_first[0])]


def _template(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get("pod-template-hash", ""))


def is_terminating(pod: Object) -> bool:
    """Whether the pod was deleted and is going."""
    return "deletionTimestamp" in pod["metadata"]


def is_ready(pod: Object) -> bool:
    """Whether the pod's condition Ready is True."""
    return condition(pod, "Ready").get("status") == "True"


def is_working(pod: Object) -> bool:
    """Whether the pod runs, is not going, and nothing is known against it."""
    runs = (pod.get("status") or {}).get("phase") == "Running"
    return runs and not is_terminating(pod) and (is_ready(pod) or culprit([pod]) is None)


def has_ended(pod: Object) -> bool:
    """Whether none of its containers runs or will run again."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def starts(pod: Object) -> Iterator[str]:
    """When the pod was made and its containers were started last, as far as it is told."""
    told = [((status.get("state") or {}).get("running") or {}).get("startedAt") for status in _containers(pod)]
    yield from filter(None, [pod["metadata"].get("creationTimestamp"), *told])


def _failing(pod: Object) -> Iterator[Culprit]:
    for status in _containers(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        ended = (status.get("state") or {}).get("terminated") or _former_end(pod, status)
        if ended.get("reason") == "OOMKilled":
            yield _blame(pod, status, "OOMKilled", "it used more memory than its limit")
        elif waiting.get("reason") == "CrashLoopBackOff":
            yield _blame(pod, status, "CrashLoopBackOff", _last_words(ended) or waiting.get("message", ""))
        elif waiting.get("reason") in _REMEDIES:
            yield _blame(pod, status, waiting["reason"], waiting.get("message", ""))
        elif ended and ended.get("exitCode", 0) != 0:
            yield _blame(pod, status, ended.get("reason", "Error"), _last_words(ended))


def _former_end(pod: Object, status: dict[str, Any]) -> dict[str, Any]:
    """How the run before the present one ended; nothing where the present one was ready already: what keeps it from
    being so now is another matter."""
    since = ((status.get("state") or {}).get("running") or {}).get("startedAt")
    turned = condition(pod, "Ready").get("lastTransitionTime")
    if since and turned and datetime.fromisoformat(turned) - datetime.fromisoformat(since) > _SETTLES:
        return {}
    return (status.get("lastState") or {}).get("terminated") or {}


def _blame(pod: Object, status: dict[str, Any], reason: str, message: str) -> Culprit:
    return Culprit(pod["metadata"]["name"], status.get("name", ""), reason, message[:_LINE])


def _last_words(ended: dict[str, Any]) -> str:
    """`exit code 3: LAST LINE`; the message is the end of the log (terminationMessagePolicy)."""
    code = f"exit code {ended['exitCode']}" if "exitCode" in ended else ""
    lines = [line.strip() for line in str(ended.get("message", "")).splitlines() if line.strip()]
    return ": ".join(part for part in (code, lines[-1] if lines else "") if part)


def _unscheduled(pod: Object) -> Culprit | None:
    scheduled = condition(pod, "PodScheduled")
    if (pod.get("status") or {}).get("phase", "Pending") != "Pending" or scheduled.get("status") != "False":
        return None
    message = scheduled.get("message", "")[:_LINE]
    return Culprit(pod["metadata"]["name"], "", scheduled.get("reason", "Unschedulable"), message)


def _containers(pod: Object) -> list[dict[str, Any]]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def condition(obj: Object, type: str) -> dict[str, Any]:
    """The condition of a Kubernetes object; {} when it has none of that type."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == type), {})
