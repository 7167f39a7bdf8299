"""What a resource has while an earlier release made its pods: the plan and the condition UpdatePending."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_workflow
from cortex_kinds.base import API_VERSION
from cortex_kinds.common import RevisionStatus
from cortex_kinds.revision import index_definition, revision_id, workflow_definition
from cortex_operator.cluster import Event, EventType, MemoryCluster, Object
from cortex_operator.cluster.owned import owned_part
from cortex_operator.dataplane import Description, ResourceKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.manifests import ReleaseSettings, index_objects, workflow_objects
from cortex_operator.manifests.origin import MOVE, RELEASE, TEMPLATE_DIGEST
from cortex_operator.manifests.policies import POLICIES_KEY
from cortex_operator.reconcile import World, index, workflow
from cortex_operator.reconcile.fleet import Fleet, Standing
from cortex_operator.reconcile.index.observe import ObservedIndex
from cortex_operator.reconcile.model import Plan
from cortex_operator.reconcile.placement import Nodes
from cortex_operator.reconcile.workflow.observe import ObservedWorkflow

BEFORE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
NOW = ReleaseSettings("registry.invalid/search:2", "registry.invalid/graph:2", log_level="DEBUG")
WORLD = World(MemoryCluster(), GrpcDataPlane(MemoryCluster()), NOW)
META = {"metadata__uid": "u", "metadata__generation": 2}
WAITS = Standing(NOW.id, granted=False)
TURN = Standing(NOW.id)
KINDS = pytest.mark.parametrize("kind", ["CortexIndex", "CortexWorkflow"])
SERVES = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}


def objects(kind: str, release: ReleaseSettings, **changes: Any) -> tuple[Object, ...]:
    if kind == "CortexIndex":
        return index_objects(a_cortex_index(**META, **changes), release)
    return workflow_objects(a_cortex_workflow(**META, **changes), release)


def of_kind(found: tuple[Object, ...], kind: str) -> Object:
    return next(obj for obj in found if obj["kind"] == kind)


def live(kind: str, release: ReleaseSettings = BEFORE, notes: dict[str, str] | None = None, **spec: Any) -> Object:
    made = of_kind(objects(kind, release), "Deployment")
    meta = {**made["metadata"], "uid": "d", "resourceVersion": "1", "generation": 1}
    meta |= {"annotations": {**made["metadata"]["annotations"], **(notes or {})}}
    return {**made, "metadata": meta, "spec": {**made["spec"], **spec}, "status": SERVES}


def planned(kind: str, standing: Standing, deployment: Object | None = None, **changes: Any) -> Plan:
    """The plan for a resource that serves; `changes` of what is observed, and of the resource (`spec__...`)."""
    spec = {name: changes.pop(name) for name in [*changes] if name.startswith("spec__")}
    deployment = deployment or live(kind)
    common: dict[str, Any] = {
        "now": datetime(2026, 6, 1, tzinfo=UTC),
        "deployment": deployment,
        "pods": ({"metadata": {"name": "pod-a"}},),
        "missing_references": (),
        "standing": standing,
        "settings": of_kind(objects(kind, BEFORE), "ConfigMap")["data"],
    }
    if kind == "CortexIndex":
        resource = a_cortex_index(**META, **spec)
        described = serving(revision_id(index_definition(resource.spec)))
        return index.plan(
            WORLD, ObservedIndex(**{**common, "resource": resource, "description": described, "jobs": (), **changes})
        )
    flow = a_cortex_workflow(**META, **spec)
    used = {"status": {"conditions": [{"type": "IndexReady", "status": "True"}], "readyReplicas": 1}}
    indexes = {"papers": {**used, "metadata": {"name": "papers"}}}
    described = serving(revision_id(workflow_definition(flow.spec)))
    seen = {**common, "resource": flow, "description": described, "indexes": indexes, "mistakes": (), **changes}
    return workflow.plan(WORLD, ObservedWorkflow(**seen))


def serving(revision: str, phase: str = "Current", documents: int = 0, waiting: int = 0) -> Description:
    one = RevisionStatus(id=revision, phase=phase, documents=0, waiting=waiting)
    return Description("pod-a", True, revision, (one,), documents)


def template(plan: Plan) -> Any:
    return of_kind(plan.apply, "Deployment")["spec"]["template"]


def notes(plan: Plan) -> dict[str, str]:
    found: dict[str, str] = of_kind(plan.apply, "Deployment")["metadata"]["annotations"]
    return found


def pending(plan: Plan) -> tuple[str, str]:
    found = [c for c in plan.status.conditions if c.type == "UpdatePending"]
    assert all(c.status == "True" for c in found)
    return (found[0].reason, found[0].message) if found else ("", "")


@KINDS
def test_who_waits_keeps_its_template_and_settings_and_all_else_moves_on(kind: str) -> None:
    plan = planned(kind, WAITS)
    before, now = objects(kind, BEFORE), objects(kind, NOW)
    assert template(plan) == of_kind(before, "Deployment")["spec"]["template"]
    assert template(plan) != of_kind(now, "Deployment")["spec"]["template"]
    assert of_kind(plan.apply, "ConfigMap") == of_kind(before, "ConfigMap")
    assert notes(plan) == of_kind(before, "Deployment")["metadata"]["annotations"]
    rest = [obj for obj in plan.apply if obj["kind"] not in ("Deployment", "ConfigMap")]
    assert rest == [obj for obj in now if obj["kind"] not in ("Deployment", "ConfigMap")]
    assert next(c for c in plan.status.conditions if c.type == "Ready").status == "True"
    assert plan.status.image.endswith(":1")
    assert pending(plan)[0] == "WaitingForTurn"


@KINDS
def test_at_its_turn_it_moves_with_its_settings_and_others_wait_for_it(kind: str) -> None:
    plan = planned(kind, TURN)
    now = objects(kind, NOW)
    assert template(plan) == of_kind(now, "Deployment")["spec"]["template"]
    assert of_kind(plan.apply, "ConfigMap") == of_kind(now, "ConfigMap")
    assert notes(plan)[RELEASE] == NOW.id
    assert notes(plan)[MOVE] == "Moving"


@KINDS
def test_whoever_was_not_ready_moves_and_nobody_waits_for_it(kind: str) -> None:
    starting = {**live(kind), "status": {**SERVES, "readyReplicas": 0}}
    plan = planned(kind, TURN, starting)
    assert notes(plan)[RELEASE] == NOW.id
    assert MOVE not in notes(plan)


FAILED = {
    "observedGeneration": 1,
    "replicas": 2,
    "updatedReplicas": 1,
    "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}],
}
MOVES: list[tuple[str, dict[str, Any], str, str]] = [
    ("pods start", {**SERVES, "readyReplicas": 0}, "Moving", "Updating"),
    ("the deadline has passed", FAILED, "Halted", "UpgradeHalted"),
    ("it is Ready", SERVES, "", ""),
]


@KINDS
@pytest.mark.parametrize("before", ["Moving", "Halted"])
@pytest.mark.parametrize(("status", "move", "reason"), [case[1:] for case in MOVES], ids=[case[0] for case in MOVES])
def test_the_others_wait_until_it_is_ready(
    kind: str, before: str, status: dict[str, Any], move: str, reason: str
) -> None:
    moved = {**live(kind, NOW, {MOVE: before}), "status": status}
    plan = planned(kind, TURN, moved, settings=None)
    assert notes(plan).get(MOVE, "") == move
    shown = "UpgradeHalted" if "Halted" in (before, move) else "Updating"
    assert pending(plan)[0] == shown
    again = {**moved, "metadata": {**moved["metadata"], "annotations": notes(plan)}}
    assert pending(planned(kind, TURN, again, settings=None))[0] == reason


@KINDS
def test_one_that_moves_and_is_paused_says_so_and_that_the_others_wait(kind: str) -> None:
    moved = {**live(kind, NOW, {MOVE: "Moving"}, paused=True), "status": {**SERVES, "updatedReplicas": 0}}
    plan = planned(kind, TURN, moved, settings=None)
    found = {c.type: (c.status, c.reason) for c in plan.status.conditions}
    assert found["Ready"] == ("False", "RolloutPaused")
    assert found["Reconciling"] == ("True", "RolloutPaused")
    assert "Stalled" not in found
    assert pending(plan)[0] == "UpgradeHalted"
    name = moved["metadata"]["name"]
    assert f"rollout resume deployment/{name}" in pending(plan)[1]
    assert notes(plan)[MOVE] == "Moving"
    resumed = {**live(kind, NOW, {MOVE: "Moving"}), "status": {**SERVES, "updatedReplicas": 0}}
    assert pending(planned(kind, TURN, resumed, settings=None))[0] == "Updating"


UNMADE: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("CortexIndex", {"spec__gpu": {"pool": "gone"}}, {"nodes": Nodes(pools=())}, "UnknownGPUPool"),
    ("CortexIndex", {"spec__gpu": {"allocation": "DRA"}}, {"unclaimable": "not served"}, "ResourceClaimsNotServed"),
    ("CortexWorkflow", {"spec__gpu": {"pool": "gone"}}, {"nodes": Nodes(pools=())}, "UnknownGPUPool"),
    ("CortexWorkflow", {}, {"mistakes": ("spec.nodes[0]: one",)}, "GraphInvalid"),
]


@pytest.mark.parametrize(("kind", "spec", "changes", "reason"), UNMADE)
def test_who_moves_and_gets_a_spec_by_which_nothing_is_made_halts_the_upgrade(
    kind: str, spec: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    moved = {**live(kind, NOW, {MOVE: "Moving"}), "status": {**SERVES, "readyReplicas": 0}}
    plan = planned(kind, TURN, moved, settings=None, **spec, **changes)
    assert plan.apply == ()
    assert {c.type: c.reason for c in plan.status.conditions}["Stalled"] == reason
    assert pending(plan)[0] == "UpgradeHalted"

    fleet = Fleet(NOW.id)
    meta = {"name": "papers", "namespace": "default", "uid": "u", "resourceVersion": "1"}
    resource = {"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "status": plan.status.to_manifest()}
    owner = {"apiVersion": API_VERSION, "kind": kind, "name": "papers", "uid": "u", "controller": True}
    name = "papers-search" if kind == "CortexIndex" else "papers-graph"
    own = {**moved, "metadata": {**moved["metadata"], "name": name, "ownerReferences": [owner], "labels": {}}}
    for obj in (resource, own):
        assert list(fleet.hear(Event(EventType.ADDED, obj))) == []
    assert fleet.halted_by == f"{kind} default/papers"
    other = ResourceKey("CortexIndex", "default", "zebra")
    assert pending(planned("CortexIndex", fleet.standing(other)))[0] == "UpgradeHalted"


@KINDS
def test_a_change_of_the_spec_that_replaces_pods_takes_the_new_release_at_once_and_others_do_not_wait(
    kind: str,
) -> None:
    plan = planned(kind, WAITS, spec__env=[{"name": "A", "value": "1"}])
    assert notes(plan)[RELEASE] == NOW.id
    assert MOVE not in notes(plan)


@KINDS
@pytest.mark.parametrize(
    "change",
    [{"spec__replicas": 3}, {"spec__update": {"maxUnavailable": 1}}, {"spec__autoscaling": {"maxReplicas": 3}}],
)
def test_a_change_of_the_number_of_pods_or_of_how_they_are_replaced_waits_on(kind: str, change: dict[str, Any]) -> None:
    plan = planned(kind, WAITS, **change)
    assert template(plan) == template(planned(kind, WAITS))
    assert notes(plan)[RELEASE] == BEFORE.id


RESILIENCE: dict[str, dict[str, Any]] = {
    "CortexIndex": {"limits": {"search": {"concurrent": 3}}},
    "CortexWorkflow": {"circuitBreaker": {"minimumCalls": 3}},
}


@KINDS
def test_who_waits_has_its_policies_at_once_and_its_settings_later(kind: str) -> None:
    def data(**changes: Any) -> dict[str, str]:
        plan = planned(kind, WAITS, **changes)
        assert template(plan) == template(planned(kind, WAITS))
        found: dict[str, str] = of_kind(plan.apply, "ConfigMap")["data"]
        return found

    before = data()
    told = data(spec__resilience=RESILIENCE[kind])
    assert before == {name: value for name, value in told.items() if name != POLICIES_KEY}
    assert "3" in told[POLICIES_KEY]
    assert data(settings=told) == before


@KINDS
def test_without_pods_there_is_nothing_to_wait_for(kind: str) -> None:
    for changes in ({"spec__suspend": True}, {"spec__replicas": 0}):
        plan = planned(kind, WAITS, **changes)
        assert notes(plan)[RELEASE] == NOW.id
        assert MOVE not in notes(plan)
    plan = planned(kind, WAITS, live(kind, replicas=0))
    assert notes(plan)[RELEASE] == NOW.id
    assert pending(plan) == ("", "")


@KINDS
def test_a_release_with_the_same_template_is_taken_at_once(kind: str) -> None:
    other = live(kind, NOW, {RELEASE: BEFORE.id})
    plan = planned(kind, WAITS, other)
    assert notes(plan)[RELEASE] == NOW.id
    assert MOVE not in notes(plan)


@KINDS
def test_what_cannot_be_kept_is_made_anew(kind: str) -> None:
    """Its ConfigMap is gone, or nobody knows what made the template."""
    unsigned = live(kind)
    unsigned["metadata"]["annotations"] = {}
    for plan in (planned(kind, WAITS, settings=None), planned(kind, WAITS, unsigned)):
        assert notes(plan)[RELEASE] == NOW.id


@KINDS
def test_an_own_image_stays_the_resources_own(kind: str) -> None:
    plan = planned(kind, TURN, spec__image="registry.invalid/own:7")
    assert template(plan)["spec"]["containers"][0]["image"] == "registry.invalid/own:7"


@KINDS
@pytest.mark.parametrize(
    ("standing", "reason", "part"),
    [
        (replace(WAITS, manual=True), "WaitingForApproval", f"cortex.datapunk.io/update={NOW.id}"),
        (replace(WAITS, halted_by="CortexIndex a/b"), "UpgradeHalted", "CortexIndex a/b did not become Ready"),
        (
            replace(WAITS, halted_by="CortexIndex a/b", paused="Deployment b-search is paused"),
            "UpgradeHalted",
            "CortexIndex a/b did not become Ready with the next one: Deployment b-search is paused",
        ),
        (WAITS, "WaitingForTurn", NOW.id),
    ],
)
def test_who_waits_says_for_what(kind: str, standing: Standing, reason: str, part: str) -> None:
    found = pending(planned(kind, standing))
    assert found[0] == reason
    assert part in found[1]
    if standing.manual:
        assert f"kubectl -n default annotate --overwrite {kind.lower()} " in found[1]


def test_the_ingest_job_of_one_that_waits_has_its_image() -> None:
    resource = a_cortex_index(**META)
    described = serving(revision_id(index_definition(resource.spec)), "Building", documents=1, waiting=1)
    for standing, image in ((WAITS, "registry.invalid/search:1"), (TURN, "registry.invalid/search:2")):
        plan = planned("CortexIndex", standing, description=described)
        job = of_kind(plan.apply, "Job")
        assert job["spec"]["template"]["spec"]["containers"][0]["image"] == image


def test_what_is_kept_is_what_the_operator_applied_and_nothing_of_others() -> None:
    entry = {
        "manager": "cortex-operator",
        "operation": "Apply",
        "apiVersion": "apps/v1",
        "fieldsV1": {
            "f:spec": {
                "f:template": {
                    "f:metadata": {"f:labels": {"f:app": {}}},
                    "f:spec": {
                        "f:containers": {
                            'k:{"name":"search"}': {".": {}, "f:name": {}, "f:image": {}, "f:command": {}},
                        },
                        "f:automountServiceAccountToken": {},
                    },
                }
            }
        },
    }
    others = {"kubectl.kubernetes.io/restartedAt": "2026-06-01T12:00:00Z"}
    ours = {"name": "search", "image": "i:1", "command": ["python", "-m", "x"]}
    spec = {
        "containers": [{"name": "sidecar", "image": "s:1"}, {**ours, "terminationMessagePath": "/dev/termination-log"}],
        "automountServiceAccountToken": False,
        "dnsPolicy": "ClusterFirst",
    }
    template = {"metadata": {"labels": {"app": "x"}, "annotations": others}, "spec": spec}
    meta: Object = {"name": "papers-search", "managedFields": [entry]}
    deployment: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {"template": template},
    }
    assert owned_part(deployment, "spec", "template") == {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [ours], "automountServiceAccountToken": False},
    }
    untold = {**deployment, "metadata": {"name": "papers-search"}}
    assert owned_part(untold, "spec", "template") == template


def test_the_digest_of_the_template_tells_templates_apart() -> None:
    assert (
        live("CortexIndex")["metadata"]["annotations"][TEMPLATE_DIGEST]
        != (live("CortexIndex", NOW)["metadata"]["annotations"][TEMPLATE_DIGEST])
    )
