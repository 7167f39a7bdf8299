from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from builders import a_cortex_workflow
from cortex_kinds.common import RevisionStatus
from cortex_kinds.revision import revision_id, workflow_definition
from cortex_operator.cluster import Event, EventType, MemoryCluster, Object
from cortex_operator.dataplane import Description, ResourceKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.manifests import ReleaseSettings, workflow_objects
from cortex_operator.reconcile import Timing, World, sources
from cortex_operator.reconcile.workflow import plan
from cortex_operator.reconcile.workflow.observe import ObservedWorkflow

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
WORLD = World(MemoryCluster(), GrpcDataPlane(MemoryCluster()), RELEASE, Timing(moving=2, idle=300, missing=15))
WORKFLOW = a_cortex_workflow(metadata__uid="u", metadata__generation=1)
DESIRED = revision_id(workflow_definition(WORKFLOW.spec))
OTHER = "00000000ff"


def an_index(ready: bool = True, pods: int = 1, answers: bool = True, name: str = "papers") -> Object:
    conditions = [
        {"type": "Ready", "status": str(ready), "reason": "PodsStarting", "message": "0 of 1 pod is ready"},
        {"type": "IndexReady", "status": str(answers), "reason": "Complete", "message": "all"},
    ]
    return {
        "kind": "CortexIndex",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {},
        "status": {"conditions": conditions, "replicas": 1, "readyReplicas": pods},
    }


def leaving(index: Object) -> Object:
    return {**index, "metadata": {**index["metadata"], "deletionTimestamp": "2026-06-01T00:00:00Z"}}


ELSEWHERE = a_cortex_workflow(
    metadata__uid="u", metadata__generation=1, spec__indexes=[{"name": "papers", "namespace": "library"}]
)
NO_INDEX = a_cortex_workflow(metadata__uid="u", metadata__generation=1, spec__indexes=[])


def described(*phases: tuple[str, str]) -> Description:
    current = next((id for id, phase in phases if phase == "Current"), "")
    return Description("pod-a", True, current, tuple(RevisionStatus(id=id, phase=phase) for id, phase in phases))


def observed(**changes: Any) -> ObservedWorkflow:
    """A workflow whose pod serves its one revision over its one index."""
    deployment = dict(workflow_objects(WORKFLOW, RELEASE)[-1])
    counts = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
    serving = ObservedWorkflow(
        now=datetime(2026, 6, 1, tzinfo=UTC),
        resource=WORKFLOW,
        deployment={**deployment, "metadata": {**deployment["metadata"], "generation": 1}, "status": counts},
        pods=({"metadata": {"name": "pod-a"}},),
        missing_references=(),
        description=described((DESIRED, "Current")),
        indexes={"papers": an_index()},
        mistakes=(),
    )
    return replace(serving, **changes)


CASES: list[tuple[str, dict[str, Any], dict[str, tuple[str, str]], float]] = [
    (
        "everything is there",
        {},
        {"Ready": ("True", "Ready"), "GraphValid": ("True", "GraphCompiles"), "Reconciling": ("", "")},
        300,
    ),
    (
        "the graph has mistakes",
        {"mistakes": ("spec.nodes[0]: one", "spec.nodes[1]: two")},
        {
            "Ready": ("False", "GraphInvalid"),
            "GraphValid": ("False", "GraphInvalid"),
            "Stalled": ("True", "GraphInvalid"),
        },
        300,
    ),
    (
        "an index is not there",
        {"indexes": {"papers": None}},
        dict.fromkeys(("Ready", "DependenciesReady", "IndexReady"), ("False", "IndexNotFound")),
        15,
    ),
    (
        "an index has no revision yet",
        {"indexes": {"papers": an_index(ready=False, answers=False)}},
        dict.fromkeys(("Ready", "DependenciesReady", "IndexReady"), ("False", "IndexNotReady")),
        15,
    ),
    (
        "an index has no pod",
        {"indexes": {"papers": an_index(pods=0)}},
        {"Ready": ("False", "IndexNotReady")},
        15,
    ),
    (
        "an index is being deleted",
        {"indexes": {"papers": leaving(an_index())}},
        dict.fromkeys(("Ready", "DependenciesReady", "IndexReady"), ("False", "IndexTerminating")),
        15,
    ),
    (
        "no index is named",
        {"resource": NO_INDEX, "indexes": {}},
        {"Ready": ("True", "RevisionBuilding"), "IndexReady": ("", "")},
        2,
    ),
    (
        "an index of another namespace is not there, or not for this one",
        {"resource": ELSEWHERE, "indexes": {"papers": None}},
        dict.fromkeys(("Ready", "DependenciesReady", "IndexReady"), ("False", "IndexNotAllowed")),
        15,
    ),
    (
        "an index of another namespace answers",
        {"resource": ELSEWHERE},
        {"Ready": ("True", "RevisionBuilding"), "IndexReady": ("True", "Ready")},
        2,
    ),
    (
        "an index rolls out new pods while the old ones answer",
        {"indexes": {"papers": an_index(ready=False)}},
        {"Ready": ("True", "Ready"), "DependenciesReady": ("True", "DependenciesFound")},
        300,
    ),
    (
        "the revision before answers",
        {"description": described((DESIRED, "Building"), (OTHER, "Current"))},
        {"Ready": ("True", "RevisionBuilding"), "Reconciling": ("True", "RevisionBuilding")},
        2,
    ),
    (
        "the revision failed and none answers",
        {"description": described((DESIRED, "Failed"))},
        {"Ready": ("False", "RevisionFailed"), "Stalled": ("True", "RevisionFailed")},
        300,
    ),
    (
        "the cluster refused an object",
        {"refused": "deployments.apps is forbidden"},
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
        "a pod refuses the revision",
        {"description": described(), "revision_refused": "pod pod-a refuses revision: no node x"},
        {"Ready": ("False", "RevisionFailed"), "Stalled": ("True", "RevisionFailed")},
        300,
    ),
]


@pytest.mark.parametrize(("changes", "conditions", "again"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_status_tells_what_is_the_case(
    changes: dict[str, Any], conditions: dict[str, tuple[str, str]], again: float
) -> None:
    planned = plan(WORLD, observed(**changes))
    found = {c.type: (c.status, c.reason) for c in planned.status.conditions}
    assert {type: found.get(type, ("", "")) for type in conditions} == conditions
    assert planned.again == again


def test_every_mistake_of_the_graph_is_told_and_nothing_is_touched() -> None:
    planned = plan(WORLD, observed(mistakes=("spec.nodes[0]: one", "spec.nodes[1]: two")))
    assert (planned.apply, planned.ensure) == ((), None)
    message = next(c.message for c in planned.status.conditions if c.type == "Stalled")
    assert message == "spec.nodes[0]: one; spec.nodes[1]: two"


def test_pods_are_made_and_the_revision_ordered_though_an_index_is_not_there_yet() -> None:
    planned = plan(WORLD, observed(indexes={"papers": None}, description=described()))
    assert "Deployment" in [obj["kind"] for obj in planned.apply]
    assert planned.ensure is not None
    assert (planned.ensure.revision, planned.ensure.retain) == (DESIRED, 3)


def keys(kind: str, *events: tuple[EventType, Object]) -> list[list[ResourceKey]]:
    """What the last events of a kind concern, after a workflow over `papers` was seen."""
    made = {source.kind: source for source in sources()}
    seen = {"metadata": {"name": "helpdesk", "namespace": "default"}, "kind": "CortexWorkflow"}
    list(made["CortexWorkflow"].keys(Event(EventType.ADDED, {**seen, "spec": {"indexes": [{"name": "papers"}]}})))
    return [list(made[kind].keys(Event(*event))) for event in events]


INDEX_KEY = ResourceKey("CortexIndex", "default", "papers")
WORKFLOW_KEY = ResourceKey("CortexWorkflow", "default", "helpdesk")


def test_an_index_wakes_its_workflows_when_it_begins_or_ceases_to_serve_and_only_then() -> None:
    added, modified, deleted = EventType.ADDED, EventType.MODIFIED, EventType.DELETED
    found = keys(
        "CortexIndex",
        (added, an_index(answers=False)),
        (modified, an_index(answers=False)),
        (modified, an_index()),
        (modified, an_index()),
        (added, an_index(name="unrelated")),
        (deleted, an_index()),
    )
    wakes = [WORKFLOW_KEY in concerned for concerned in found]
    assert wakes == [True, False, True, False, False, True]
    assert found[1] == [INDEX_KEY]


def test_an_owned_object_concerns_its_resource_even_without_its_labels() -> None:
    labelled = {
        "metadata": {"name": "p", "namespace": "default", "labels": {"cortex.datapunk.io/workflow": "helpdesk"}}
    }
    owner = {"apiVersion": "cortex.datapunk.io/v1alpha1", "kind": "CortexIndex", "name": "papers", "uid": "u"}
    owned = {"metadata": {"name": "p", "namespace": "default", "ownerReferences": [owner]}}
    foreign = {"metadata": {"name": "p", "namespace": "default"}}
    events = [(EventType.MODIFIED, obj) for obj in (labelled, owned, foreign)]
    assert keys("Pod", *events) == [[WORKFLOW_KEY], [INDEX_KEY], []]


@pytest.mark.parametrize("description", [None, Description("pod-a", False)], ids=["nobody answers", "the Lake is down"])
def test_pods_that_do_not_answer_are_asked_the_more_seldom_the_longer_it_lasts(description: Description | None) -> None:
    silent = observed(description=description, unreachable="no pod answers")
    before = WORKFLOW.model_copy(update={"status": plan(WORLD, silent).status})
    later = [replace(silent, resource=before, now=silent.now + timedelta(seconds=s)) for s in (0, 3, 20, 200, 20_000)]
    assert [plan(WORLD, seen).again for seen in later] == [2, 2, 10, 100, 300]
