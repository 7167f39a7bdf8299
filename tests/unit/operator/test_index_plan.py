from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from builders import a_cortex_index
from cortex_kinds.common import RevisionStatus
from cortex_kinds.index import CortexIndex
from cortex_kinds.revision import index_definition, revision_id
from cortex_operator.cluster import MemoryCluster, Object
from cortex_operator.dataplane import Dependency, Description
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.manifests import ReleaseSettings, index_objects, ingest_job
from cortex_operator.reconcile import Timing, World
from cortex_operator.reconcile.index import plan
from cortex_operator.reconcile.index.observe import ObservedIndex
from cortex_operator.reconcile.model import MissingReference, Plan

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
WORLD = World(MemoryCluster(), GrpcDataPlane(MemoryCluster()), RELEASE, Timing(moving=2, idle=300, missing=15))
INDEX = a_cortex_index(metadata__uid="u", metadata__generation=1)
DESIRED = revision_id(index_definition(INDEX.spec))
OTHER = "00000000ff"


def a_revision(id: str = DESIRED, phase: str = "Current", **counts: Any) -> RevisionStatus:
    return RevisionStatus(id=id, phase=phase, **counts)


def described(*revisions: RevisionStatus, documents: int = 0) -> Description:
    current = next((r.id for r in revisions if r.phase == "Current"), "")
    return Description("pod-a", True, current, revisions, documents)


def deployed(**status: Any) -> Object:
    deployment = dict(index_objects(INDEX, RELEASE)[-1])
    meta = {**deployment["metadata"], "generation": 1}
    counts = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
    return {**deployment, "metadata": meta, "status": {**counts, **status}}


def observed(**changes: Any) -> ObservedIndex:
    """An index whose pod serves its one revision."""
    serving = ObservedIndex(
        now=NOW,
        resource=INDEX,
        deployment=deployed(),
        pods=({"metadata": {"name": "pod-a"}},),
        missing_references=(),
        description=described(a_revision()),
        jobs=(),
    )
    return replace(serving, **changes)


def settled(**changes: Any) -> ObservedIndex:
    """The same, as it is when the pass before has written its status."""
    before = plan(WORLD, observed()).status
    return observed(resource=INDEX.model_copy(update={"status": before}), **changes)


def a_job(
    revision: str = DESIRED, finished: str = "", since: timedelta = timedelta(0), of: CortexIndex = INDEX
) -> Object:
    job = ingest_job(of, revision, RELEASE)
    meta = {**job["metadata"], "uid": f"job-{revision}", "creationTimestamp": "2026-06-01T11:00:00Z"}
    condition = {"type": finished, "status": "True", "lastTransitionTime": (NOW - since).isoformat(), "message": "boom"}
    return {**job, "metadata": meta, "status": {"conditions": [condition] if finished else []}}


def told(planned: Plan, type: str) -> tuple[str, str]:
    found = next((c for c in planned.status.conditions if c.type == type), None)
    return (found.status, found.reason) if found else ("", "")


def kinds(planned: Plan) -> list[str]:
    return [obj["kind"] for obj in planned.apply]


SECRET = MissingReference("default", "cortex-lake", "dsn", False, "postgresql://HOST/DB")
ABSENT = {"deployment": None, "pods": (), "description": None, "unreachable": "there is no pod to ask"}
UNPLACED: Object = {
    "metadata": {"name": "pod-b"},
    "status": {
        "phase": "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
        ],
    },
}
UNREAD = Description("pod-a", False, missing=(Dependency("Lake", "LakeUnreachable", "no answer; is it up?"),))
STATUS: list[tuple[str, dict[str, Any], dict[str, tuple[str, str]], float]] = [
    (
        "everything is there",
        {},
        {"Ready": ("True", "Ready"), "IndexReady": ("True", "Complete"), "Reconciling": ("", ""), "Stalled": ("", "")},
        300,
    ),
    (
        "documents wait and none is embedded",
        {"description": described(a_revision(waiting=10), documents=10)},
        {"Ready": ("True", "Ready"), "IndexReady": ("True", "TextOnly"), "Reconciling": ("", "")},
        2,
    ),
    (
        "some documents are embedded",
        {"description": described(a_revision(documents=4, waiting=6), documents=10)},
        {"Ready": ("True", "Ready"), "IndexReady": ("True", "Embedding")},
        2,
    ),
    (
        "another revision is being built",
        {"description": described(a_revision(phase="Building"), a_revision(OTHER))},
        {"Ready": ("True", "RevisionBuilding"), "Reconciling": ("True", "RevisionBuilding")},
        2,
    ),
    (
        "the revision failed",
        {"description": described(a_revision(phase="Failed", message="no model"), a_revision(OTHER))},
        {"Ready": ("True", "RevisionFailed"), "Stalled": ("True", "RevisionFailed"), "Reconciling": ("", "")},
        300,
    ),
    (
        "no revision yet",
        {"description": described()},
        {"Ready": ("False", "RevisionPending"), "Reconciling": ("True", "RevisionPending")},
        2,
    ),
    (
        "the first pass",
        ABSENT,
        {"Ready": ("False", "Applying"), "DataPlaneReachable": ("False", "NoPodAnswers")},
        2,
    ),
    (
        "pods start and their Lake does not answer",
        {"deployment": deployed(readyReplicas=0), "description": UNREAD},
        {"Ready": ("False", "LakeUnreachable"), "DependenciesReady": ("False", "LakeUnreachable")},
        2,
    ),
    (
        "a Secret is missing and nothing runs",
        {**ABSENT, "missing_references": (SECRET,)},
        {"Ready": ("False", "SecretNotFound"), "DependenciesReady": ("False", "SecretNotFound")},
        15,
    ),
    (
        "a Secret lacks its key",
        {**ABSENT, "missing_references": (replace(SECRET, found=True),)},
        {"Ready": ("False", "SecretKeyMissing")},
        15,
    ),
    (
        "a Secret went while the pods serve",
        {"missing_references": (SECRET,)},
        {"Ready": ("True", "Ready"), "DependenciesReady": ("False", "SecretNotFound")},
        15,
    ),
    (
        "no node has room and nothing runs",
        {
            "deployment": deployed(replicas=1, readyReplicas=0),
            "pods": (UNPLACED,),
            "description": None,
            "unreachable": "no pod answers",
        },
        {"Ready": ("False", "Unschedulable"), "Schedulable": ("False", "Unschedulable")},
        15,
    ),
    (
        "no node has room for the new pod and the old one builds",
        {"deployment": deployed(replicas=2, updatedReplicas=1), "pods": ({"metadata": {"name": "pod-a"}}, UNPLACED)},
        {"Ready": ("False", "Unschedulable"), "Reconciling": ("True", "Unschedulable")},
        2,
    ),
    (
        "the Service does not list the ready pods",
        {"description": None, "unreachable": "no pod yet", "unlisted": "Service papers-search-headless lists none"},
        {"Ready": ("False", "NotInEndpoints"), "DataPlaneReachable": ("False", "NoPodAnswers")},
        2,
    ),
    (
        "the cluster refused an object",
        {"refused": "Deployment default/papers-search is not valid"},
        {"Ready": ("False", "ApplyRefused"), "Stalled": ("True", "ApplyRefused")},
        15,
    ),
    (
        "something of the namesake is still there",
        {"lingers": "Service x is still that of another"},
        {"Ready": ("False", "Applying"), "Reconciling": ("True", "Applying")},
        2,
    ),
    (
        "the Job of a revision failed",
        {
            "description": described(a_revision(phase="Building"), a_revision(OTHER)),
            "jobs": (a_job(finished="Failed"),),
        },
        {"Ready": ("True", "IngestFailed"), "Stalled": ("True", "IngestFailed")},
        300,
    ),
    (
        "the pod could not be asked this time",
        {"description": None, "unreachable": "no pod answers: pod-a said UNAVAILABLE"},
        {
            "Ready": ("True", "Ready"),
            "IndexReady": ("True", "Complete"),
            "DataPlaneReachable": ("False", "NoPodAnswers"),
        },
        2,
    ),
]


@pytest.mark.parametrize(("changes", "conditions", "again"), [c[1:] for c in STATUS], ids=[c[0] for c in STATUS])
def test_the_status_tells_what_is_the_case(
    changes: dict[str, Any], conditions: dict[str, tuple[str, str]], again: float
) -> None:
    planned = plan(WORLD, settled(**changes))
    assert {type: told(planned, type) for type in conditions} == conditions
    assert planned.again == again
    assert planned.status.observed_generation == 1
    for condition in planned.status.conditions:
        assert condition.observed_generation == 1
        assert condition.message
        assert len(condition.message) <= 1024


def test_an_index_scaled_to_zero_is_ready_and_says_that_nothing_serves() -> None:
    index = a_cortex_index(metadata__generation=1, spec__replicas=0)
    none = dict(replicas=0, updatedReplicas=0, readyReplicas=0)
    deployment = deployed(**none)
    deployment["spec"] = {**deployment["spec"], "replicas": 0}
    planned = plan(WORLD, observed(resource=index, deployment=deployment, pods=(), description=None))
    assert told(planned, "Ready") == ("True", "ScaledToZero")
    assert planned.again == 300


def test_planning_again_after_the_status_was_written_changes_nothing() -> None:
    first = plan(WORLD, settled())
    later = replace(settled(), now=NOW + timedelta(hours=1))
    assert plan(WORLD, later).status == first.status


def test_a_missing_secret_stops_the_first_deployment_but_neither_its_policy_nor_one_that_is_there() -> None:
    assert kinds(plan(WORLD, observed(missing_references=(SECRET,), deployment=None))) == ["NetworkPolicy"]
    assert "Deployment" in kinds(plan(WORLD, observed(missing_references=(SECRET,))))


@pytest.mark.parametrize(
    ("description", "ensures"),
    [
        (described(), True),
        (described(a_revision(OTHER)), True),
        (described(a_revision(phase="Retained"), a_revision(OTHER)), True),
        (described(a_revision(), a_revision(OTHER, phase="Building")), True),
        (described(a_revision()), False),
        (described(a_revision(phase="Building"), a_revision(OTHER)), False),
        (described(a_revision(phase="Failed"), a_revision(OTHER)), False),
        (UNREAD, False),
        (None, False),
    ],
)
def test_the_revision_is_ordered_when_the_lake_does_not_have_it_on_its_way(
    description: Description | None, ensures: bool
) -> None:
    planned = plan(WORLD, settled(description=description))
    assert (planned.ensure is not None) == ensures
    if planned.ensure is not None:
        assert (planned.ensure.revision, planned.ensure.retain) == (DESIRED, 2)


def test_a_new_generation_is_told_to_the_lake_even_if_the_revision_is_the_same() -> None:
    later = settled().resource.model_copy(update={"metadata": INDEX.metadata.model_copy(update={"generation": 2})})
    assert plan(WORLD, observed(resource=later)).ensure is not None


JOBS: list[tuple[str, Description, tuple[Object, ...], list[str], list[str]]] = [
    ("few wait", described(a_revision(waiting=1000)), (), [], []),
    ("many wait", described(a_revision(waiting=1001)), (), [DESIRED], []),
    ("many wait and a Job works", described(a_revision(waiting=1001)), (a_job(),), [], []),
    ("few wait now and a Job works on", described(a_revision(waiting=3)), (a_job(),), [], []),
    ("many wait again", described(a_revision(waiting=1001)), (a_job(finished="Complete"),), [], [DESIRED]),
    ("all is done", described(a_revision()), (a_job(finished="Complete"),), [], []),
    ("a revision is built", described(a_revision(phase="Building"), a_revision(OTHER)), (), [DESIRED], []),
    (
        "a build that just failed waits",
        described(a_revision(phase="Building"), a_revision(OTHER)),
        (a_job(finished="Failed", since=timedelta(minutes=4)),),
        [],
        [],
    ),
    (
        "a build that failed some time ago is tried again",
        described(a_revision(phase="Building"), a_revision(OTHER)),
        (a_job(finished="Failed", since=timedelta(minutes=5)),),
        [],
        [DESIRED],
    ),
    ("a revision that nobody wants", described(a_revision()), (a_job("11111111ff"),), [], ["11111111ff"]),
    (
        "the revision before still has many documents",
        described(a_revision(phase="Building"), a_revision(OTHER, waiting=5000)),
        (a_job(OTHER),),
        [DESIRED],
        [],
    ),
]


@pytest.mark.parametrize(("description", "jobs", "made", "deleted"), [c[1:] for c in JOBS], ids=[c[0] for c in JOBS])
def test_ingest_jobs(description: Description, jobs: tuple[Object, ...], made: list[str], deleted: list[str]) -> None:
    planned = plan(WORLD, settled(description=description, jobs=jobs))
    found = [obj["metadata"]["labels"]["cortex.datapunk.io/revision"] for obj in planned.apply if obj["kind"] == "Job"]
    assert found == made
    assert [uid for _, uid in planned.delete] == [f"job-{id}" for id in deleted]


SILENT: dict[str, Any] = {"description": None, "unreachable": "no pod answers: pod-a said UNAVAILABLE"}


@pytest.mark.parametrize("changes", [SILENT, {"description": UNREAD}], ids=["nobody answers", "the Lake is down"])
def test_pods_that_do_not_answer_are_asked_the_more_seldom_the_longer_it_lasts(changes: dict[str, Any]) -> None:
    def again(seconds: float, before: Any, **more: Any) -> float:
        found = plan(
            WORLD, replace(observed(resource=before, **{**changes, **more}), now=NOW + timedelta(seconds=seconds))
        )
        assert found.again is not None
        return found.again

    before = INDEX.model_copy(update={"status": plan(WORLD, settled(**changes)).status})
    assert [again(seconds, before) for seconds in (0, 3, 20, 200, 20_000)] == [2, 2, 10, 100, 300]
    started: Object = {
        "metadata": {"name": "pod-b", "creationTimestamp": "2026-06-01T11:00:00Z"},
        "status": {
            "containerStatuses": [{"name": "search", "state": {"running": {"startedAt": "2026-06-01T12:03:00Z"}}}]
        },
    }
    assert again(200, before, pods=(started,)) == 10
    made: Object = {"metadata": {"name": "pod-b", "creationTimestamp": "2026-06-01T12:03:20Z"}}
    assert again(200, before, pods=(started, made)) == 2
    answers = described(a_revision(phase="Building"), a_revision(OTHER))
    assert again(200, before, description=answers, unreachable="") == 2


WRONG = a_cortex_index(metadata__uid="u", metadata__generation=1, spec__image="registry.invalid/serach:1")
ELSEWHERE = a_cortex_index(metadata__uid="u", metadata__generation=1, spec__placement={"queueName": "no-such"})
PULLS = {"name": "ingest", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}
ENDED = {"name": "ingest", "state": {"terminated": {"reason": "Error", "exitCode": 3}}}
BUILDS = described(a_revision(phase="Building"), a_revision(OTHER))


def an_ingest_pod(phase: str, *containers: Object, revision: str = DESIRED, **meta: Any) -> Object:
    owner = {"kind": "Job", "name": f"papers-ingest-{revision}", "uid": f"job-{revision}"}
    status = {"phase": phase, "containerStatuses": list(containers)}
    return {"metadata": {"name": f"ingest-{phase.lower()}", "ownerReferences": [owner], **meta}, "status": status}


def unsigned(job: Object) -> Object:
    return {**job, "metadata": {name: value for name, value in job["metadata"].items() if name != "annotations"}}


STUCK: list[tuple[str, Object, tuple[Object, ...], bool]] = [
    ("its image cannot be pulled, and is corrected", a_job(of=WRONG), (an_ingest_pod("Pending", PULLS),), True),
    ("no pod of it is made, and the queue is corrected", a_job(of=ELSEWHERE), (), True),
    ("its tries fail", a_job(of=WRONG), (an_ingest_pod("Failed", ENDED),), True),
    ("it ran beside something that runs on", a_job(of=WRONG), (an_ingest_pod("Running", ENDED),), True),
    ("its pod is going", a_job(of=WRONG), (an_ingest_pod("Running", deletionTimestamp="2026-06-01T11:00:00Z"),), True),
    ("the pod of another Job runs", a_job(of=WRONG), (an_ingest_pod("Running", revision=OTHER),), True),
    ("it works with what was before", a_job(of=WRONG), (an_ingest_pod("Running"),), False),
    ("a try failed and the next works", a_job(of=WRONG),
     (an_ingest_pod("Failed", ENDED), an_ingest_pod("Running")), False),
    ("it would be made the same", a_job(), (an_ingest_pod("Pending", PULLS),), False),
    ("nobody knows of what it was made", unsigned(a_job(of=WRONG)), (an_ingest_pod("Pending", PULLS),), False),
    ("it failed, and is corrected", a_job(of=WRONG, finished="Failed"), (an_ingest_pod("Failed", ENDED),), True),
    ("it failed a moment ago", a_job(finished="Failed"), (an_ingest_pod("Failed", ENDED),), False),
]  # fmt: skip


@pytest.mark.parametrize(("job", "pods", "goes"), [case[1:] for case in STUCK], ids=[case[0] for case in STUCK])
def test_a_job_that_cannot_start_gives_way_to_one_by_the_corrected_spec(
    job: Object, pods: tuple[Object, ...], goes: bool
) -> None:
    planned = plan(WORLD, settled(description=BUILDS, jobs=(job,), ingest_pods=pods))
    assert [key.name for key, _ in planned.delete] == ([f"papers-ingest-{DESIRED}"] if goes else [])
    assert "Job" not in kinds(planned)
    (made,) = [obj for obj in plan(WORLD, settled(description=BUILDS)).apply if obj["kind"] == "Job"]
    assert made["metadata"]["annotations"] == a_job()["metadata"]["annotations"]


def test_a_job_that_cannot_start_goes_too_when_it_is_not_needed_any_more() -> None:
    pods = (an_ingest_pod("Pending", PULLS),)
    planned = plan(WORLD, settled(description=described(a_revision()), jobs=(a_job(of=WRONG),), ingest_pods=pods))
    assert len(planned.delete) == 1


@pytest.mark.parametrize(
    ("description", "ready"), [(BUILDS, "True"), (described(a_revision(phase="Building")), "False")]
)
def test_what_holds_up_the_job_of_a_revision_that_is_built_is_told(description: Description, ready: str) -> None:
    def messages(*pods: Object) -> dict[str, str]:
        found = plan(WORLD, settled(description=description, jobs=(a_job(),), ingest_pods=pods)).status.conditions
        assert {c.type: c.status for c in found}["IndexReady"] == ready
        return {c.type: c.message for c in found if c.type in ("IndexReady", "Ready", "Reconciling")}

    said = (
        f"; Job papers-ingest-{DESIRED} does not get on: pod ingest-pending, container ingest: ImagePullBackOff: not "
        "found; check the image's name and that it can be pulled (spec.image)"
    )
    assert [text.endswith(said) for text in messages(an_ingest_pod("Pending", PULLS)).values()] == [True] * 3
    for fine in ((an_ingest_pod("Pending"),), (an_ingest_pod("Failed", ENDED), an_ingest_pod("Running"))):
        assert not any("does not get on" in text for text in messages(*fine).values())


REFUSED = (
    f"; Job papers-ingest-{DESIRED} does not get on: the cluster makes no pod for it; see the quotas and policies of "
    f"the namespace, and what kubectl -n default describe job papers-ingest-{DESIRED} tells"
)


@pytest.mark.parametrize(
    ("changes", "age", "said"),
    [
        ({}, 15, REFUSED),
        ({}, 14, ""),
        ({"status": {"active": 1}}, 3600, ""),
        ({"status": {"failed": 1}}, 3600, ""),
        (
            {"spec": {"suspend": True}},
            0,
            "it is suspended (spec.suspend), until its queue admits it or who suspended it",
        ),
        ({"spec": {"suspend": False}}, 3600, REFUSED),
    ],
)
def test_a_job_without_a_pod_is_told(changes: dict[str, Any], age: int, said: str) -> None:
    job = a_job()
    job["metadata"]["creationTimestamp"] = (NOW - timedelta(seconds=age)).isoformat()
    for part, more in changes.items():
        job[part] = {**job[part], **more}
    status = plan(WORLD, settled(description=BUILDS, jobs=(job,), ingest_pods=())).status
    message = next(c.message for c in status.conditions if c.type == "IndexReady")
    assert said in message
    assert ("does not get on" in message) == bool(said)


def test_without_the_lake_no_job_is_touched() -> None:
    planned = plan(WORLD, settled(description=UNREAD, jobs=(a_job("11111111ff"),)))
    assert planned.delete == ()
    assert "Job" not in kinds(planned)
