from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cortex_kinds.conditions import Reason
from cortex_operator.cluster import Object
from cortex_operator.reconcile.pods import culprit, unready
from cortex_operator.reconcile.rollout import rollout
from objects import a_deployment

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def a_pod(name: str = "papers-search-1", *, made: str = "2026-01-01T00:00:00Z", **status: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "creationTimestamp": made},
        "status": {"phase": "Running", **status},
    }


def waiting(reason: str, message: str = "", /, **last: Any) -> dict[str, Any]:
    state = {"name": "search", "state": {"waiting": {"reason": reason, "message": message}}}
    return {"containerStatuses": [{**state, **({"lastState": {"terminated": last}} if last else {})}]}


CASES: list[tuple[str, dict[str, Any], str, list[str]]] = [
    (
        "a crash loop tells the last line of the log",
        waiting("CrashLoopBackOff", "back-off 40s", exitCode=3, reason="Error", message="loading\nno such table: x\n"),
        "CrashLoopBackOff",
        ["papers-search-1", "search", "exit code 3", "no such table: x"],
    ),
    (
        "an image that cannot be pulled",
        waiting("ImagePullBackOff", 'Back-off pulling image "nope:1"'),
        "ImagePullBackOff",
        ["nope:1", "spec.image"],
    ),
    (
        "a Secret that the container reads is gone",
        waiting("CreateContainerConfigError", 'secret "cortex-lake" not found'),
        "CreateContainerConfigError",
        ["cortex-lake", "Secrets"],
    ),
    (
        "memory, though the pod says only that it crashes",
        waiting("CrashLoopBackOff", "", exitCode=137, reason="OOMKilled"),
        "OOMKilled",
        ["spec.resources.limits.memory"],
    ),
    (
        "no node has room",
        {
            "phase": "Pending",
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": "0/3 nodes are available: insufficient memory",
                }
            ],
        },
        "Unschedulable",
        ["0/3 nodes", "spec.resources.requests"],
    ),
    (
        "a container that ended",
        {"containerStatuses": [{"name": "search", "state": {"terminated": {"exitCode": 1, "message": "bye"}}}]},
        "Error",
        ["exit code 1", "bye"],
    ),
]


@pytest.mark.parametrize(("status", "reason", "parts"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_culprit_is_named_with_its_reason_and_what_to_do(
    status: dict[str, Any], reason: str, parts: list[str]
) -> None:
    found = culprit([a_pod(**status)])
    assert found is not None
    assert found.reason == reason
    for part in parts:
        assert part in str(found)


def test_pods_that_are_ready_going_or_merely_starting_are_not_to_blame() -> None:
    ready = a_pod(conditions=[{"type": "Ready", "status": "True"}], **waiting("CrashLoopBackOff"))
    going = a_pod(**waiting("CrashLoopBackOff"))
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    starting = a_pod(**waiting("ContainerCreating"))
    assert culprit([ready, going, starting, a_pod(phase="Pending")]) is None


def test_the_newest_failing_pod_is_named_before_one_that_waits_for_a_node() -> None:
    unscheduled = a_pod("waits", made="2026-01-03T00:00:00Z", **CASES[4][1])
    old = a_pod("old", made="2026-01-01T00:00:00Z", **waiting("CrashLoopBackOff"))
    new = a_pod("new", made="2026-01-02T00:00:00Z", **waiting("ImagePullBackOff"))
    found = culprit([unscheduled, old, new])
    assert found is not None
    assert found.pod == "new"


@pytest.mark.parametrize(
    ("turned", "blamed"),
    [("2026-01-01T00:09:59Z", True), ("2026-01-01T00:10:05Z", True), ("2026-01-01T00:12:00Z", False)],
)
def test_of_an_older_death_is_told_until_the_container_was_ready_again(turned: str, blamed: bool) -> None:
    ended = {"exitCode": 137, "message": "the Lake answers", "reason": "Error"}
    state = {"running": {"startedAt": "2026-01-01T00:10:00Z"}}
    pod = a_pod(
        conditions=[{"type": "Ready", "status": "False", "lastTransitionTime": turned}],
        containerStatuses=[{"name": "search", "state": state, "lastState": {"terminated": ended}}],
    )
    found = culprit([pod])
    assert (found is not None and "exit code 137" in str(found)) == blamed
    assert bool(unready([pod], datetime(2026, 1, 1, 0, 13, tzinfo=UTC)))


def test_pods_of_an_older_template_are_not_to_blame() -> None:
    old = a_pod("old", made="2026-01-01T00:00:00Z", **waiting("CrashLoopBackOff", "back-off"))
    new = a_pod("new", made="2026-01-02T00:00:00Z", containerStatuses=[{"name": "search", "state": {"running": {}}}])
    assert culprit([old, new]) is not None
    old["metadata"]["labels"] = {"pod-template-hash": "a"}
    new["metadata"]["labels"] = {"pod-template-hash": "b"}
    assert culprit([old, new]) is None


def test_a_long_message_of_a_container_is_cut() -> None:
    found = culprit([a_pod(**waiting("CrashLoopBackOff", exitCode=1, message="x" * 5000))])
    assert found is not None
    assert len(str(found)) < 500


def deployed(generation: int = 2, **status: Any) -> Object:
    deployment = a_deployment(replicas=2)
    deployment["metadata"]["generation"] = generation
    deployment["status"] = {
        "observedGeneration": 2,
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        **status,
    }
    return deployment


def test_a_rollout_is_done_when_all_pods_are_of_this_generation_and_ready() -> None:
    assert rollout(deployed(), (), NOW).done
    assert not rollout(deployed(generation=3), (), NOW).done
    assert not rollout(deployed(readyReplicas=1), (), NOW).done
    assert not rollout(deployed(updatedReplicas=1), (), NOW).done
    assert not rollout(deployed(replicas=3, readyReplicas=3), (), NOW).done
    assert rollout(None, (), NOW).reason is Reason.APPLYING


def test_old_pods_that_are_ready_do_not_count_as_ready_of_this_generation() -> None:
    found = rollout(deployed(replicas=3, updatedReplicas=1, readyReplicas=2), (), NOW)
    assert (found.reason, found.ready) == (Reason.PODS_STARTING, 2)
    assert found.message == "1 of 2 pods of this generation are ready"
    assert rollout(deployed(generation=3), (), NOW).message.startswith("0 of 2")


def test_one_pod_is_and_two_pods_are() -> None:
    one = deployed(replicas=1, updatedReplicas=1, readyReplicas=0)
    one["spec"]["replicas"] = 1
    assert rollout(one, (), NOW).message == "0 of 1 pod of this generation is ready"
    one["status"]["readyReplicas"] = 1
    assert rollout(one, (), NOW).message == "the pod is ready"
    assert rollout(deployed(), (), NOW).message == "all 2 pods are ready"


@pytest.mark.parametrize(
    ("status", "held"),
    [
        pytest.param({"updatedReplicas": 0}, True, id="nothing of the change was made"),
        pytest.param({"updatedReplicas": 1}, True, id="some of it was"),
        pytest.param({"replicas": 0, "updatedReplicas": 0, "readyReplicas": 0}, True, id="it never began"),
        pytest.param({"readyReplicas": 1}, False, id="a pod of this generation starts again"),
        pytest.param({"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}, False, id="it grows"),
        pytest.param({"observedGeneration": 1, "updatedReplicas": 0}, False, id="nobody has seen it yet"),
    ],
)
def test_a_pause_is_named_with_what_ends_it_while_it_holds_something_up(status: dict[str, Any], held: bool) -> None:
    deployment = deployed(**status)
    assert rollout(deployment, (), NOW).reason is Reason.PODS_STARTING
    deployment["spec"]["paused"] = True
    failing = a_pod(**waiting("CrashLoopBackOff"))
    found = rollout(deployment, (failing,), NOW)
    assert not found.done
    if not held:
        assert found.reason is Reason.POD_FAILING
        return
    assert (found.reason, found.failed) == (Reason.ROLLOUT_PAUSED, False)
    name = deployment["metadata"]["name"]
    command = f"kubectl -n {deployment['metadata']['namespace']} rollout resume deployment/{name}"
    assert found.message == f"Deployment {name} is paused (spec.paused): {command}"


def test_a_pause_that_holds_nothing_up_is_not_said() -> None:
    deployment = deployed()
    deployment["spec"]["paused"] = True
    assert rollout(deployment, (), NOW).done
    deployment["spec"]["replicas"] = 0
    deployment["status"] = {"observedGeneration": 2}
    assert rollout(deployment, (), NOW).reason is Reason.SCALED_TO_ZERO


def test_a_rollout_that_ran_out_of_time_has_failed() -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    assert rollout(deployed(readyReplicas=0, conditions=[late]), (), NOW).failed
    assert not rollout(deployed(generation=3, readyReplicas=0, conditions=[late]), (), NOW).failed


def running(since: datetime, *, ready: bool = False, started: bool = True) -> Object:
    probes = {
        "startupProbe": {"grpc": {"port": 50052, "service": "liveness"}},
        "readinessProbe": {"grpc": {"port": 50052, "service": ""}},
    }
    state = {"running": {"startedAt": since.strftime("%Y-%m-%dT%H:%M:%SZ")}}
    pod = a_pod(containerStatuses=[{"name": "search", "ready": ready, "started": started, "state": state}])
    return {**pod, "spec": {"containers": [{"name": "search", **probes}]}}


def test_a_pod_that_runs_for_long_without_getting_ready_leads_to_its_probe() -> None:
    since = NOW - timedelta(seconds=61)
    said = unready([running(since)], NOW)
    for part in ("papers-search-1", "search", "2026-01-01T11:58:59Z", "readiness probe", "gRPC port 50052"):
        assert part in said
    assert "startup probe (gRPC port 50052, service 'liveness')" in unready([running(since, started=False)], NOW)
    assert unready([running(since)], NOW) == unready([running(since)], NOW + timedelta(minutes=5))


def test_a_pod_that_just_started_or_is_ready_is_not_spoken_of() -> None:
    assert unready([running(NOW - timedelta(seconds=59))], NOW) == ""
    assert unready([running(NOW - timedelta(hours=1), ready=True)], NOW) == ""
    assert unready([a_pod(**waiting("ContainerCreating"))], NOW) == ""


def test_a_rollout_says_why_it_does_not_get_on() -> None:
    late = rollout(deployed(readyReplicas=0), (running(NOW - timedelta(minutes=2)),), NOW)
    assert late.reason is Reason.PODS_STARTING
    assert "readiness probe" in late.message

    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: gpus"}
    none = rollout(deployed(replicas=0, updatedReplicas=0, readyReplicas=0, conditions=[refused]), (), NOW)
    assert none.reason is Reason.PODS_REFUSED
    assert "exceeded quota: gpus" in none.message

    crashing = rollout(deployed(readyReplicas=0, conditions=[refused]), (a_pod(**waiting("CrashLoopBackOff")),), NOW)
    assert crashing.reason is Reason.POD_FAILING
    unplaced = rollout(deployed(readyReplicas=0), (a_pod(**CASES[4][1]),), NOW)
    assert unplaced.reason is Reason.UNSCHEDULABLE
