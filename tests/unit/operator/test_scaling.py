"""Who says how many pods there are: the plan, the objects and the condition AutoscalingReady."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_workflow
from cortex_kinds.common import CommonSpec
from cortex_operator.cluster import MemoryCluster, Object, ObjectKey
from cortex_operator.cluster.owned import may_own
from cortex_operator.dataplane import ResourceKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.manifests import ReleaseSettings, index_objects, workflow_objects
from cortex_operator.manifests.deployment import BEFORE_SUSPENSION
from cortex_operator.manifests.scale import Scale
from cortex_operator.reconcile import Reconciler, World
from cortex_operator.reconcile.autoscaling import autoscaling_findings
from cortex_operator.reconcile.scaling import hand_over, scale
from objects import Place

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
AUTO = {"minReplicas": 2, "maxReplicas": 8}
INDEX = a_cortex_index(metadata__uid="u", spec__autoscaling=AUTO)


def a_spec(**spec: Any) -> CommonSpec:
    return a_cortex_index(spec=spec).spec


def a_deployment(replicas: int, before: str = "", owners: tuple[str, ...] | None = None) -> Object:
    """`owners`: the managers that applied `replicas`; None: the store does not tell."""
    owner = {"apiVersion": INDEX.api_version, "kind": "CortexIndex", "name": "papers", "uid": "u", "controller": True}
    meta: dict[str, Any] = {
        "name": "papers-search",
        "namespace": "default",
        "uid": "d",
        "resourceVersion": "7",
        "ownerReferences": [owner],
    }
    meta |= {"annotations": {BEFORE_SUSPENSION: before}} if before else {}
    if owners is not None:
        entry = {"operation": "Apply", "apiVersion": "apps/v1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        meta["managedFields"] = [{**entry, "manager": owner} for owner in owners]
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {"replicas": replicas}}


OURS, THEIRS = ("cortex-operator",), ("cortex-operator-autoscaled",)
CASES: list[tuple[str, dict[str, Any], Object | None, Scale, int | None]] = [
    ("nothing is there yet", {}, None, Scale(1), None),
    ("the spec says it", {"replicas": 3}, a_deployment(5), Scale(3), None),
    ("a new one begins with the fewest", {"autoscaling": AUTO}, None, Scale(2), None),
    ("the operator's own is handed over", {"autoscaling": AUTO}, a_deployment(3, owners=OURS), Scale(3, False), 3),
    ("also when who owns it is not told", {"autoscaling": AUTO}, a_deployment(3), Scale(3, False), 3),
    ("what is handed over is left alone", {"autoscaling": AUTO}, a_deployment(5, owners=THEIRS), Scale(5, False), None),
    ("nobody's is left alone", {"autoscaling": AUTO}, a_deployment(5, owners=()), Scale(5, False), None),
    ("more than maxReplicas is the autoscaler's to change", {"autoscaling": AUTO}, a_deployment(9), Scale(9, False), 9),
    ("from zero to the fewest", {"autoscaling": AUTO}, a_deployment(0, owners=()), Scale(2, False), 2),
    ("from a suspension to what ran", {"autoscaling": AUTO}, a_deployment(0, "5"), Scale(5, False), 5),
    ("but not fewer than the fewest", {"autoscaling": AUTO}, a_deployment(0, "1"), Scale(2, False), 2),
    ("nor more than the most", {"autoscaling": AUTO}, a_deployment(0, "9"), Scale(8, False), 8),
    ("the spec's number after a suspension", {"replicas": 3}, a_deployment(0, "5"), Scale(3), None),
    ("suspended", {"autoscaling": AUTO, "suspend": True}, a_deployment(5), Scale(0, before=5), None),
    ("suspended for long", {"replicas": 3, "suspend": True}, a_deployment(0, "5"), Scale(0, before=5), None),
]


@pytest.mark.parametrize(("spec", "deployment", "wanted", "handed"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_who_says_how_many(spec: dict[str, Any], deployment: Object | None, wanted: Scale, handed: int | None) -> None:
    found = scale(a_spec(**spec), deployment)
    assert found == wanted
    given = hand_over(deployment, index_objects(INDEX, RELEASE, found), found)
    assert (given["spec"]["replicas"] if given else None) == handed
    if given:
        assert given["metadata"] == {
            "name": "papers-search",
            "namespace": "default",
            "uid": "d",
            "resourceVersion": "7",
        }


@pytest.mark.parametrize(
    ("change", "handed"),
    [
        ({"ownerReferences": []}, False),
        ({"ownerReferences": [], "labels": {"app.kubernetes.io/managed-by": "cortex-operator"}}, True),
        ({"ownerReferences": [{"kind": "Shop", "name": "s", "uid": "s", "controller": True}]}, False),
    ],
)
def test_the_pods_of_somebody_else_are_left_alone(change: dict[str, Any], handed: bool) -> None:
    deployment = a_deployment(0)
    deployment["metadata"] |= change
    found = scale(INDEX.spec, deployment)
    assert (hand_over(deployment, index_objects(INDEX, RELEASE, found), found) is not None) == handed


def test_a_field_is_owned_by_those_who_applied_it() -> None:
    assert may_own(a_deployment(3, owners=OURS), "spec", "replicas")
    assert not may_own(a_deployment(3, owners=OURS), "spec", "paused")
    assert not may_own(a_deployment(3, owners=THEIRS), "spec", "replicas")
    assert may_own(a_deployment(3), "spec", "replicas")


@pytest.mark.parametrize("kind", ["index", "workflow"])
def test_the_autoscaler_takes_the_place_of_the_number(kind: str) -> None:
    auto = {**AUTO, "metrics": [{"type": "CPU", "target": "70"}, {"type": "Memory", "target": "90"}]}
    auto["behavior"] = {"scaleDown": {"stabilizationWindow": "90s"}}
    built: Any = index_objects(a_cortex_index(spec__autoscaling=auto), RELEASE, Scale(3, told=False))
    if kind == "workflow":
        built = workflow_objects(a_cortex_workflow(spec__autoscaling=auto), RELEASE, Scale(3, told=False))
    deployment, autoscaler = built[-2:]
    assert deployment["kind"] == "Deployment"
    assert "replicas" not in deployment["spec"]
    assert "PodDisruptionBudget" in [obj["kind"] for obj in built]
    name = deployment["metadata"]["name"]
    assert autoscaler["metadata"]["ownerReferences"] == deployment["metadata"]["ownerReferences"]
    assert autoscaler["spec"] == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": 2,
        "maxReplicas": 8,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
            },
            {
                "type": "Resource",
                "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 90}},
            },
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 90}},
    }


def test_with_gpus_an_update_never_takes_all_autoscaled_pods_at_once() -> None:
    def strategy(most: int) -> dict[str, Any]:
        auto = {"minReplicas": 1, "maxReplicas": most}
        index = a_cortex_index(spec__gpu={}, spec__autoscaling=auto)
        built = index_objects(index, RELEASE, Scale(most, told=False))
        return dict(next(obj for obj in built if obj["kind"] == "Deployment")["spec"]["strategy"])

    assert strategy(8) == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    assert strategy(1) == {"type": "Recreate"}


def says(**conditions: tuple[str, str, str]) -> Object:
    told = [{"type": t, "status": s, "reason": r, "message": m} for t, (s, r, m) in conditions.items()]
    return {"status": {"conditions": told}}


ABLE = ("True", "ReadyForNewScale", "recommended size matches current size")
VALID = ("True", "ValidMetricFound", "the HPA was able to successfully calculate a replica count")
NO_API = "failed to get cpu utilization: the server could not find the requested resource (get pods.metrics.k8s.io)"
FINDINGS: list[tuple[str, Object | None, tuple[str, str], str]] = [
    ("not there yet", None, ("Unknown", "Pending"), "no controller has looked"),
    ("nobody looks at it", {"spec": {}}, ("Unknown", "Pending"), "with cortex up there is none"),
    ("it works", says(AbleToScale=ABLE, ScalingActive=VALID), ("True", "ScalingActive"), "follows"),
    (
        "more are wanted",
        says(AbleToScale=ABLE, ScalingActive=VALID, ScalingLimited=("True", "TooManyReplicas", "")),
        ("True", "ScalingLimited"),
        "maxReplicas",
    ),
    (
        "fewer would do",
        says(AbleToScale=ABLE, ScalingActive=VALID, ScalingLimited=("True", "TooFewReplicas", "")),
        ("True", "ScalingActive"),
        "",
    ),
    (
        "the metrics API is not there",
        says(AbleToScale=ABLE, ScalingActive=("False", "FailedGetResourceMetric", NO_API)),
        ("False", "MetricsSourceMissing"),
        "install metrics-server",
    ),
    (
        "no metrics yet",
        says(AbleToScale=ABLE, ScalingActive=("False", "FailedGetResourceMetric", "no metrics returned")),
        ("False", "FailedGetResourceMetric"),
        "no metrics returned",
    ),
    (
        "it may not scale",
        says(AbleToScale=("False", "FailedGetScale", "forbidden")),
        ("False", "FailedGetScale"),
        "forbidden",
    ),
]


@pytest.mark.parametrize(("autoscaler", "value", "part"), [c[1:] for c in FINDINGS], ids=[c[0] for c in FINDINGS])
def test_the_condition_says_what_the_cluster_says(autoscaler: Object | None, value: tuple[str, str], part: str) -> None:
    (found,) = autoscaling_findings(a_spec(autoscaling=AUTO), autoscaler)
    assert (found.status, found.reason) == value
    assert part in found.message


def test_the_condition_is_there_only_with_autoscaling() -> None:
    assert autoscaling_findings(a_spec(), says(AbleToScale=ABLE)) == ()
    (found,) = autoscaling_findings(a_spec(autoscaling=AUTO, suspend=True), None)
    assert found.reason == "Suspended"


async def test_on_this_machine_the_autoscaler_is_stored_and_its_fewest_pods_run() -> None:
    """The same switches in the in-memory store, for a workflow."""
    cluster, place = MemoryCluster(), Place("default")
    for secret in (place.secret("cortex-lake", dsn="postgresql://h/d"), place.secret("cortex-state", url="redis://h")):
        await cluster.apply(secret)
    reconcile = Reconciler(World(cluster, GrpcDataPlane(cluster), RELEASE))

    async def replicas(**spec: Any) -> tuple[int, list[str]]:
        manifest = place.workflow()
        await cluster.apply({**manifest, "spec": {**manifest["spec"], **spec}})
        for _ in range(3):
            await reconcile(ResourceKey("CortexWorkflow", "default", "helpdesk"))
        deployment = await cluster.get(ObjectKey("apps/v1", "Deployment", "default", "helpdesk-graph"))
        found = await cluster.list("autoscaling/v2", "HorizontalPodAutoscaler")
        workflow = await cluster.get(ObjectKey("cortex.datapunk.io/v1alpha1", "CortexWorkflow", "default", "helpdesk"))
        told = [c["type"] for c in workflow["status"]["conditions"]]
        assert ("AutoscalingReady" in told) == ("autoscaling" in spec)
        return deployment["spec"]["replicas"], [obj["metadata"]["name"] for obj in found]

    assert await replicas(autoscaling=AUTO) == (2, ["helpdesk-graph"])
    assert await replicas(replicas=5) == (5, [])
    assert await replicas(autoscaling=AUTO) == (5, ["helpdesk-graph"])
    assert await replicas(autoscaling=AUTO, suspend=True) == (0, [])
    assert await replicas(autoscaling=AUTO) == (5, ["helpdesk-graph"])
    assert await replicas() == (1, [])
