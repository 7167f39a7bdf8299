"""What is planned and said of suspended resources, of both kinds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_workflow
from cortex_kinds.conditions import ConditionType
from cortex_operator.cluster import MemoryCluster, Object, ObjectKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.manifests import ReleaseSettings, index_objects, ingest_job, workflow_objects
from cortex_operator.manifests.deployment import BEFORE_SUSPENSION
from cortex_operator.reconcile import Timing, World, index, workflow
from cortex_operator.reconcile.index.observe import ObservedIndex
from cortex_operator.reconcile.keda import Keda
from cortex_operator.reconcile.model import Plan
from cortex_operator.reconcile.placement import Nodes
from cortex_operator.reconcile.serving import why_not_serving
from cortex_operator.reconcile.workflow.observe import ObservedWorkflow
from pydantic import ValidationError

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
WORLD = World(MemoryCluster(), GrpcDataPlane(MemoryCluster()), RELEASE, Timing(moving=2, idle=300, missing=15))
META = {"metadata__uid": "u", "metadata__generation": 2}
STOPPED = {"observedGeneration": 2, "replicas": 0, "updatedReplicas": 0, "readyReplicas": 0}


def planned(kind: str, *, pods: int = 0, mistakes: tuple[str, ...] = (), **changes: Any) -> Plan:
    """The plan for a suspended resource whose Deployment is `changes["deployment"]`: stopped unless it is given."""
    common: dict[str, Any] = {
        "now": datetime(2026, 6, 1, tzinfo=UTC),
        "deployment": stopped(kind),
        "pods": tuple({"metadata": {"name": f"pod-{n}"}} for n in range(pods)),
        "missing_references": (),
        "description": None,
    }
    jobs = changes.pop("jobs", ())
    spec = {"suspend": True, "replicas": 3, **changes.pop("spec", {})}
    if kind == "CortexIndex":
        resource = a_cortex_index(**META, spec=spec)
        return index.plan(WORLD, ObservedIndex(**{**common, "resource": resource, "jobs": jobs, **changes}))
    flow = a_cortex_workflow(**META, **{f"spec__{name}": value for name, value in spec.items()})
    seen = ObservedWorkflow(
        **{**common, "resource": flow, "indexes": {"papers": None}, "mistakes": mistakes, **changes}
    )
    return workflow.plan(WORLD, seen)


def stopped(kind: str, **changes: Any) -> Object:
    objects: Any = index_objects(a_cortex_index(**META), RELEASE)
    if kind == "CortexWorkflow":
        objects = workflow_objects(a_cortex_workflow(**META), RELEASE)
    deployment = next(obj for obj in objects if obj["kind"] == "Deployment")
    spec = {**deployment["spec"], "replicas": changes.pop("replicas", 0)}
    meta = {**deployment["metadata"], "uid": "d", "generation": 2, "annotations": changes.pop("annotations", {})}
    return {**deployment, "metadata": meta, "spec": spec, "status": changes.pop("status", STOPPED)}


def told(plan: Plan) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in plan.status.conditions}


def deployment_of(plan: Plan) -> Object:
    return next(obj for obj in plan.apply if obj["kind"] == "Deployment")


KINDS = pytest.mark.parametrize("kind", ["CortexIndex", "CortexWorkflow"])


@KINDS
def test_without_pods_it_is_ready_and_says_that_it_is_suspended(kind: str) -> None:
    plan = planned(kind)
    found = told(plan)
    assert found["Ready"] == ("True", "Suspended")
    assert found["Suspended"] == ("True", "Suspended")
    assert found["DependenciesReady"] == ("Unknown", "Suspended")
    assert found["Schedulable"] == ("True", "Suspended")
    assert found["DataPlaneReachable"] == ("False", "Suspended")
    assert found["IndexReady"] == ("False" if kind == "CortexIndex" else "Unknown", "Suspended")
    assert not {"Reconciling", "Stalled"} & found.keys()
    assert plan.again is None


@KINDS
def test_everything_but_pods_and_budget_is_kept(kind: str) -> None:
    kinds = [obj["kind"] for obj in planned(kind, deployment=None).apply]
    assert kinds == ["NetworkPolicy", "ServiceAccount", "ConfigMap", "Service", "Service", "Deployment"]
    assert deployment_of(planned(kind))["spec"]["replicas"] == 0


@KINDS
@pytest.mark.parametrize(
    ("changes", "ready", "again"),
    [
        ({"pods": 2}, ("False", "PodsStopping"), None),
        ({"deployment": None}, ("False", "Applying"), None),
        ({"refused": "Deployment x is not valid"}, ("False", "ApplyRefused"), 15),
        ({"lingers": "Service x is still that of another"}, ("False", "Applying"), 2),
    ],
)
def test_it_is_not_ready_before_it_is_stopped(
    kind: str, changes: dict[str, Any], ready: tuple[str, str], again: float | None
) -> None:
    plan = planned(kind, **changes)
    assert told(plan)["Ready"] == ready
    assert plan.again == again


@KINDS
@pytest.mark.parametrize(
    ("deployment", "before"),
    [
        ({"replicas": 5}, "5"),
        ({"replicas": 0, "annotations": {BEFORE_SUSPENSION: "5"}}, "5"),
        ({"replicas": 4, "annotations": {BEFORE_SUSPENSION: "5"}}, "4"),
        ({"replicas": 0, "annotations": {BEFORE_SUSPENSION: "five"}}, None),
        ({"replicas": 0}, None),
    ],
)
def test_what_ran_before_is_kept_on_the_deployment(kind: str, deployment: dict[str, Any], before: str | None) -> None:
    annotations = deployment_of(planned(kind, deployment=stopped(kind, **deployment)))["metadata"].get("annotations")
    assert (annotations or {}).get(BEFORE_SUSPENSION) == before


def test_jobs_that_work_are_ended_and_none_is_made() -> None:
    def a_job(revision: str, finished: str = "") -> Object:
        job = ingest_job(a_cortex_index(**META), revision, RELEASE)
        conditions = [{"type": finished, "status": "True"}] if finished else []
        return {**job, "metadata": {**job["metadata"], "uid": revision}, "status": {"conditions": conditions}}

    plan = planned("CortexIndex", jobs=(a_job("00000000aa"), a_job("00000000bb", "Complete")))
    assert [uid for _, uid in plan.delete] == ["00000000aa"]
    assert "Job" not in [obj["kind"] for obj in plan.apply]
    assert plan.ensure is None


def test_a_graph_with_mistakes_is_stopped_too() -> None:
    plan = planned("CortexWorkflow", mistakes=("spec.nodes[0]: one",))
    assert told(plan)["GraphValid"] == ("False", "GraphInvalid")
    assert told(plan)["Ready"] == ("True", "Suspended")
    assert deployment_of(plan)["spec"]["replicas"] == 0


UNMADE = pytest.mark.parametrize(
    ("gpu", "changes", "reason"),
    [
        ({"pool": "gone"}, {"nodes": Nodes(pools=())}, "UnknownGPUPool"),
        ({"allocation": "DRA"}, {"unclaimable": "the cluster does not serve it"}, "ResourceClaimsNotServed"),
    ],
)


@KINDS
@UNMADE
@pytest.mark.parametrize("mistakes", [(), ("spec.nodes[0]: one",)])
def test_one_whose_gpus_cannot_be_had_any_more_is_stopped_too_and_not_resumed(
    kind: str, gpu: dict[str, Any], changes: dict[str, Any], reason: str, mistakes: tuple[str, ...]
) -> None:
    runs = stopped(kind, replicas=1, status={**STOPPED, "replicas": 1})
    plan = planned(kind, pods=1, deployment=runs, spec={"gpu": gpu}, mistakes=mistakes, **changes)
    assert deployment_of(plan)["spec"]["replicas"] == 0
    assert told(plan)["Ready"] == ("False", "PodsStopping")
    assert told(planned(kind, spec={"gpu": gpu}, mistakes=mistakes, **changes))["Ready"] == ("True", "Suspended")

    resumed = planned(kind, spec={"gpu": gpu, "suspend": False}, mistakes=mistakes, **changes)
    assert resumed.apply == ()
    invalid = kind == "CortexWorkflow" and mistakes
    assert told(resumed)["Stalled"] == ("True", "GraphInvalid" if invalid else reason)


@KINDS
@UNMADE
def test_its_pods_stay_where_they_are_while_keda_may_still_say_how_many_there_are(
    kind: str, gpu: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    keda = Keda(lingering="ScaledObject papers-search")
    left = ((ObjectKey("keda.sh/v1alpha1", "ScaledObject", "default", "papers-search"), "k"),)
    runs = stopped(kind, replicas=1)
    plan = planned(kind, pods=1, deployment=runs, spec={"gpu": gpu}, keda=keda, leftovers=left, **changes)
    assert "Deployment" not in [obj["kind"] for obj in plan.apply]
    assert plan.delete == left
    assert plan.again == WORLD.timing.moving


def test_the_condition_goes_when_it_resumes() -> None:
    status = planned("CortexIndex").status
    assert ConditionType.SUSPENDED in {c.type for c in status.conditions}
    awake = a_cortex_index(**META).model_copy(update={"status": status})
    seen = ObservedIndex(
        now=datetime(2026, 6, 1, tzinfo=UTC),
        resource=awake,
        deployment=stopped("CortexIndex", replicas=1),
        pods=(),
        missing_references=(),
        description=None,
        jobs=(),
    )
    plan = index.plan(WORLD, seen)
    assert ConditionType.SUSPENDED not in {c.type for c in plan.status.conditions}
    assert told(plan)["Ready"][0] == "False"


def test_those_who_use_a_suspended_index_hear_why() -> None:
    conditions = [{"type": "IndexReady", "status": "True", "reason": "Complete", "message": ""}]
    serving = {"metadata": {"name": "papers"}, "spec": {}, "status": {"conditions": conditions, "readyReplicas": 1}}
    assert why_not_serving(serving) == ""
    said = why_not_serving({**serving, "spec": {"suspend": True}})
    assert said == "CortexIndex papers is suspended; set its spec.suspend to false"


@pytest.mark.parametrize("value", ["true", 1, "yes"])
def test_suspend_is_a_boolean_as_the_api_server_has_it(value: Any) -> None:
    with pytest.raises(ValidationError, match="valid boolean"):
        a_cortex_index(spec__suspend=value)
