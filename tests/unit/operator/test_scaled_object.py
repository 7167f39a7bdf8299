"""Scaling by what Prometheus says: the ScaledObject, what must be there for it, what KEDA says of it, and that nobody
else says the number of pods while anything of KEDA's is there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_index_manifest
from cortex_kinds.base import API_VERSION
from cortex_kinds.index import CortexIndex
from cortex_operator.cluster import MemoryCluster, Object, ObjectKey
from cortex_operator.manifests import ReleaseSettings, index_objects
from cortex_operator.manifests.autoscaler import HPA, autoscaler_kind
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.optional import SCALED_OBJECT
from cortex_operator.manifests.scale import Scale
from cortex_operator.manifests.scaledobject import missing_source
from cortex_operator.reconcile.autoscaling import autoscaling_findings
from cortex_operator.reconcile.keda import Keda, find_keda
from cortex_operator.reconcile.observe import find_leftovers
from cortex_operator.reconcile.scaling import hand_over, scale
from objects import owned_by

BARE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
KEDA = replace(BARE, served=frozenset({SCALED_OBJECT}))
ADDRESS = "http://prometheus.monitoring:9090"
QUERY = {"query": "sum(rate(requests_total[2m]))", "threshold": "100"}
ASKED = {"type": "Prometheus", "prometheus": QUERY}
TOLD = {"type": "Prometheus", "prometheus": {**QUERY, "serverAddress": ADDRESS}}
CPU = {"type": "CPU", "target": "70"}


def an_index(*metrics: Any, **spec: Any) -> CortexIndex:
    autoscaling = {"minReplicas": 2, "maxReplicas": 8, "metrics": list(metrics)}
    return a_cortex_index(metadata__uid="u", spec={"autoscaling": autoscaling, **spec})


@pytest.mark.parametrize(
    ("metrics", "release", "kind", "part"),
    [
        ([CPU], BARE, HPA, ""),
        ([CPU], KEDA, HPA, ""),
        ([TOLD], BARE, None, "does not serve its ScaledObject (keda.sh/v1alpha1): install it"),
        ([CPU, TOLD], BARE, None, "need KEDA"),
        ([TOLD], KEDA, SCALED_OBJECT, ""),
        ([CPU, TOLD], KEDA, SCALED_OBJECT, ""),
        ([TOLD, ASKED], KEDA, None, "autoscaling.prometheusAddress"),
        ([TOLD, ASKED], replace(KEDA, prometheus_address=ADDRESS), SCALED_OBJECT, ""),
    ],
)
def test_which_autoscaler_there_is(
    metrics: list[Any], release: ReleaseSettings, kind: tuple[str, str] | None, part: str
) -> None:
    index = an_index(*metrics)
    assert autoscaler_kind(index.spec, release) == kind
    assert part in missing_source(index.spec.autoscaling, release)
    assert bool(part) == bool(missing_source(index.spec.autoscaling, release))
    built = index_objects(index, release, Scale(3, told=False))
    found = [(obj["apiVersion"], obj["kind"]) for obj in built]
    assert [each for each in found if each in (HPA, SCALED_OBJECT)] == ([kind] if kind else [])
    assert not {HPA, SCALED_OBJECT} & {
        (obj["apiVersion"], obj["kind"]) for obj in index_objects(index, release, Scale(3, told=False, waits=True))
    }
    (said,) = autoscaling_findings(index.spec, None, Keda(missing_source(index.spec.autoscaling, release)))
    if part:
        assert (said.status, said.reason) == ("False", "MetricsSourceMissing")
        assert part in said.message


def test_the_metric_s_own_address_wins_and_cpu_may_decide_beside_it() -> None:
    other = {"type": "Prometheus", "prometheus": {"query": "up", "threshold": "0.5"}}
    index = an_index(CPU, TOLD, other)
    (found,) = index_objects(index, replace(KEDA, prometheus_address="http://release:1"), Scale(3, told=False))[-1:]
    assert found["spec"] == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "papers-search"},
        "minReplicaCount": 2,
        "maxReplicaCount": 8,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}}}},
        "triggers": [
            {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}},
            {
                "type": "prometheus",
                "metricType": "AverageValue",
                "metadata": {"serverAddress": ADDRESS, **QUERY},
            },
            {
                "type": "prometheus",
                "metricType": "AverageValue",
                "metadata": {"serverAddress": "http://release:1", "query": "up", "threshold": "0.5"},
            },
        ],
    }


def says(**conditions: tuple[str, str, str]) -> Object:
    told = [{"type": t, "status": s, "reason": r, "message": m} for t, (s, r, m) in conditions.items()]
    return {"status": {"conditions": told}}


WELL = ("True", "ScaledObjectReady", "ScaledObject is defined correctly")
ABLE = ("True", "ReadyForNewScale", "")
NO_API = "unable to get external metric default/s0-prometheus: the server could not find the requested resource"


@pytest.mark.parametrize(
    ("keda", "value", "part"),
    [
        (Keda(), ("Unknown", "Pending"), "KEDA has not looked"),
        (Keda(scaled_object=says(Ready=("Unknown", "", ""))), ("Unknown", "Pending"), "see that its operator runs"),
        (
            Keda(scaled_object=says(Ready=("False", "ScaledObjectCheckFailed", "no such host"))),
            ("False", "ScaledObjectCheckFailed"),
            "KEDA says: no such host",
        ),
        (
            Keda(scaled_object=says(Ready=WELL, Paused=("True", "ScaledObjectPaused", "by annotation"))),
            ("False", "ScaledObjectPaused"),
            "by annotation",
        ),
        (Keda(scaled_object=says(Ready=WELL)), ("Unknown", "Pending"), "no controller has looked"),
        (
            Keda(
                scaled_object=says(Ready=WELL), autoscaler=says(AbleToScale=ABLE, ScalingActive=("True", "Valid", ""))
            ),
            ("True", "ScalingActive"),
            "follows",
        ),
        (
            Keda(
                scaled_object=says(Ready=WELL),
                autoscaler=says(AbleToScale=ABLE, ScalingActive=("False", "FailedGetExternalMetric", NO_API)),
            ),
            ("False", "MetricsSourceMissing"),
            "keda-operator-metrics-apiserver",
        ),
    ],
)
def test_the_condition_says_what_keda_and_its_autoscaler_say(keda: Keda, value: tuple[str, str], part: str) -> None:
    (found,) = autoscaling_findings(an_index(TOLD).spec, None, keda)
    assert (found.status, found.reason) == value
    assert part in found.message


def test_while_something_lingers_nobody_else_says_the_number() -> None:
    deployment: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "papers-search", "namespace": "default", "uid": "d", "resourceVersion": "7"},
        "spec": {"replicas": 5},
    }
    for spec in ({"replicas": 2}, {"suspend": True}, {"autoscaling": {"maxReplicas": 3}}):
        index = a_cortex_index(metadata__uid="u", spec=spec)
        wanted = scale(index.spec, deployment, lingering=True)
        assert wanted == Scale(5, told=False, waits=True)
        built = index_objects(index, KEDA, wanted)
        assert "HorizontalPodAutoscaler" not in [obj["kind"] for obj in built]
        (made,) = [obj for obj in built if obj["kind"] == "Deployment"]
        assert "replicas" not in made["spec"]
        assert hand_over(deployment, built, wanted) is None


async def a_stored_index(cluster: MemoryCluster, *metrics: Any) -> CortexIndex:
    manifest = a_cortex_index_manifest(spec={"autoscaling": {"maxReplicas": 8, "metrics": list(metrics)}})
    await cluster.apply(manifest)
    return CortexIndex.model_validate(await cluster.get(ObjectKey(API_VERSION, "CortexIndex", "default", "papers")))


async def of_keda(cluster: MemoryCluster, owner: Object) -> Object:
    """A ScaledObject `papers-search` of that owner, and what KEDA makes of it."""
    scaled_key = ObjectKey(*SCALED_OBJECT, "default", "papers-search")
    scaled: Object = {"apiVersion": SCALED_OBJECT[0], "kind": SCALED_OBJECT[1], "metadata": {"name": "papers-search"}}
    await cluster.apply(owned_by(scaled, owner))
    stored = await cluster.get(scaled_key)
    made: Object = {"apiVersion": HPA[0], "kind": HPA[1], "metadata": {"name": "keda-hpa-papers-search"}}
    await cluster.apply(owned_by(made, stored))
    return stored


async def test_what_is_left_of_keda_is_named_until_both_are_gone_and_deleted_once() -> None:
    cluster = MemoryCluster()
    index = await a_stored_index(cluster, CPU)
    owner = await cluster.get(ObjectKey(API_VERSION, "CortexIndex", "default", "papers"))
    part = Part(index, "search")
    assert (await find_keda(cluster, part, "papers-search", KEDA)).waits == ""
    scaled = await of_keda(cluster, owner)
    found = await find_keda(cluster, part, "papers-search", KEDA)
    assert found.lingering == "ScaledObject papers-search and HorizontalPodAutoscaler keda-hpa-papers-search"
    assert "see that its operator runs" in found.waits
    leftovers = await find_leftovers(cluster, part, "papers-search", Scale(5, told=False, waits=True), KEDA)
    assert leftovers == ((ObjectKey.of(scaled), scaled["metadata"]["uid"]),)

    await cluster.apply({**scaled, "metadata": {**scaled["metadata"], "finalizers": ["finalizer.keda.sh"]}})
    await cluster.delete(ObjectKey.of(scaled))
    assert await find_leftovers(cluster, part, "papers-search", Scale(5, told=False, waits=True), KEDA) == ()
    assert (await find_keda(cluster, part, "papers-search", KEDA)).lingering.startswith("ScaledObject")


async def test_a_scaled_object_of_somebody_else_is_not_waited_for_and_one_that_is_wanted_is_read() -> None:
    cluster = MemoryCluster()
    index = await a_stored_index(cluster, TOLD)
    other: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other", "namespace": "default"}}
    await cluster.apply(other)
    await of_keda(cluster, await cluster.get(ObjectKey.of(other)))
    plain = index.model_copy(update={"spec": index.spec.model_copy(update={"autoscaling": None})})
    assert (await find_keda(cluster, Part(plain, "search"), "papers-search", KEDA)).lingering == ""

    found = await find_keda(cluster, Part(index, "search"), "papers-search", KEDA)
    assert found.scaled_object is not None
    assert found.autoscaler is not None
    assert (found.lingering, found.missing) == ("", "")
