"""The status of a pod as kubelet writes it; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cortex_operator.cluster.port import Object


def now() -> str:
    """RFC 3339, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class ContainerStatus:
    """What is known about the pod's container; the pod's status follows from it."""

    name: str
    image: str = ""
    phase: str = "Pending"
    ready: bool = False
    started: bool = False
    not_ready: str = ""
    """Why it is not ready."""
    restarts: int = 0
    state: dict[str, Any] = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last_state: dict[str, Any] = field(default_factory=dict)
    pid: int = 0
    start_time: str = field(default_factory=now)
    ready_since: str = field(default_factory=now)

    def wait(self, reason: str, message: str) -> None:
        """It does not run and is to run later."""
        self._stop_serving()
        self.state = {"waiting": {"reason": reason, "message": message}}
        self.not_ready = message

    def run(self, pid: int, ready: bool) -> None:
        """It runs from now on."""
        self.phase, self.pid = "Running", pid
        self.state = {"running": {"startedAt": now()}}
        self.not_ready = "the readiness probe has not answered yet"
        self.set_ready(ready)

    def end(self, code: int | None, message: str) -> None:
        """Its process has ended; code None: nobody can know how."""
        began = self.state.get("running", {}).get("startedAt", now())
        self._stop_serving()
        reason = "Completed" if code == 0 else "Error" if code is not None else "ExitCodeUnknown"
        ended: dict[str, Any] = {"exitCode": 255 if code is None else code, "reason": reason, "message": message}
        self.state = {"terminated": {**ended, "startedAt": began, "finishedAt": now()}}
        self.last_state = self.state
        self.not_ready = f"the container has ended with exit code {code}: {message}"

    def set_ready(self, ready: bool, why_not: str = "") -> None:
        """Whether it serves."""
        if ready != self.ready:
            self.ready, self.ready_since = ready, now()
        self.not_ready = why_not or self.not_ready
        self.started = self.started or ready

    def _stop_serving(self) -> None:
        self.set_ready(False)
        self.started, self.pid = False, 0

    def pod_status(self) -> Object:
        """The pod's status."""
        completed = self.phase == "Succeeded"
        truth = "True" if self.ready else "False"
        why = {} if self.ready else {"reason": "PodCompleted" if completed else "ContainersNotReady"}
        if not self.ready and not completed:
            why["message"] = f"container {self.name}: {self.not_ready}"
        condition = {"status": truth, "lastTransitionTime": self.ready_since, **why}
        return {
            "phase": self.phase,
            "podIP": "127.0.0.1",
            "hostIP": "127.0.0.1",
            "startTime": self.start_time,
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": self.start_time},
                {"type": "Initialized", "status": "True", "lastTransitionTime": self.start_time},
                {"type": "ContainersReady", **condition},
                {"type": "Ready", **condition},
            ],
            "containerStatuses": [self._container()],
        }

    def _container(self) -> Object:
        status: Object = {"name": self.name, "image": self.image, "ready": self.ready, "started": self.started}
        status |= {"restartCount": self.restarts, "state": self.state}
        if self.last_state and self.last_state is not self.state:
            status["lastState"] = self.last_state
        if self.pid:
            status["containerID"] = f"process://{self.pid}"
        return status


def is_ready(pod: Object) -> bool:
    """Whether the pod serves and is to go on serving."""
    return not is_terminating(pod) and any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in pod.get("status", {}).get("conditions", [])
    )


def is_terminating(pod: Object) -> bool:
    """Whether the pod has been deleted and its process may still run."""
    return "deletionTimestamp" in pod["metadata"]


def container_status(pod: Object) -> Object:
    """The status of the pod's container; empty before kubelet has seen the pod."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    result: Object = statuses[0] if statuses else {}
    return result


def last_words(pod: Object) -> str:
    """What the container said last when it ended."""
    status = container_status(pod)
    for state in (status.get("state", {}), status.get("lastState", {})):
        if "terminated" in state:
            return str(state["terminated"].get("message", ""))
    return ""
