"""The golden files are written anew by `CORTEX_UPDATE_GOLDEN=1 pytest tests/unit/operator/test_manifests.py`."""

from __future__ import annotations

import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import a_cortex_index, a_cortex_workflow
from cortex_kinds.base import DNS_LABEL, parse_quantity
from cortex_kinds.common import Resources
from cortex_operator.manifests import ReleaseSettings, index_objects, ingest_job, names, workflow_objects
from cortex_operator.manifests.cleanup import Target, cleanup_job, cleanup_secret
from cortex_operator.manifests.optional import CLAIM_TEMPLATE, POD_MONITOR
from cortex_operator.manifests.scale import Scale
from cortex_workloads.runtime.settings import GraphSettings, IngestSettings, SearchSettings
from hypothesis import assume, given
from hypothesis import strategies as st

GOLDEN = Path(__file__).with_name("golden")
SEARCH_IMAGE = "registry.invalid/datapunk-cortex-search:0.1.0"
GRAPH_IMAGE = "registry.invalid/datapunk-cortex-graph:0.1.0"
RELEASE = ReleaseSettings(SEARCH_IMAGE, GRAPH_IMAGE)
META = {"metadata__uid": "00000000-0000-4000-8000-000000000001", "metadata__namespace": "research"}
NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
RESOURCE_NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)
REVISIONS = st.from_regex(r"[0-9a-f]{10}", fullmatch=True)
Objects = tuple[dict[str, Any], ...]


def plain_index() -> Objects:
    return index_objects(a_cortex_index(**META), RELEASE)


def full_index() -> Objects:
    index = a_cortex_index(
        **META,
        spec__image="registry.invalid/own:2",
        spec__replicas=3,
        spec__retrieval={"mode": "Text", "topK": 25},
        spec__resources={"requests": {"cpu": "500m"}, "limits": {"memory": "2Gi"}},
        spec__lake={"secretRef": {"name": "my-lake"}},
        spec__state={"secretRef": {"name": "my-state"}},
    )
    release = ReleaseSettings(
        SEARCH_IMAGE,
        GRAPH_IMAGE,
        image_pull_policy="Always",
        drain_seconds=25.5,
        log_level="DEBUG",
        otlp_endpoint="http://collector.observability:4317",
    )
    return index_objects(index, release)


def ingest() -> Objects:
    return (ingest_job(a_cortex_index(**META), "0a1b2c3d4e", RELEASE),)


def index_with_models() -> Objects:
    volume = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "models"}}
    index = a_cortex_index(
        **META, spec__storage={"models": volume}, spec__embedding={"local": {"model": "e5-small", "sha256": "0" * 64}}
    )
    return (*index_objects(index, RELEASE), ingest_job(index, "0a1b2c3d4e", RELEASE))


def cleanup() -> Objects:
    target = Target("CortexWorkflow", "research", "helpdesk", "00000000-0000-4000-8000-000000000001")
    release = replace(RELEASE, image_pull_secrets=("registry",))
    job = cleanup_job(target, release, before=1_800_000_000.0, seconds=540, trusts=True)
    stored = {"metadata": {"uid": "00000000-0000-4000-8000-000000000002"}}
    return (job, cleanup_secret(target, release, {"dsn": "postgresql://lake/d", "ca.crt": "PEM"}, stored))


def workflow() -> Objects:
    indexes = [{"name": "papers"}, {"name": "tickets"}]
    return workflow_objects(a_cortex_workflow(**META, spec__indexes=indexes, spec__replicas=2), RELEASE)


def monitored_index() -> Objects:
    release = replace(RELEASE, served=frozenset({POD_MONITOR}), pod_monitor_labels={"release": "prometheus"})
    return index_objects(a_cortex_index(**META), release)[-1:]


def claimed_index() -> Objects:
    gpu = {"allocation": "DRA", "count": 2, "memory": "80G", "products": ["NVIDIA-A100-SXM4-80GB"]}
    return index_objects(a_cortex_index(**META, spec__gpu=gpu), replace(RELEASE, served=frozenset({CLAIM_TEMPLATE})))


def autoscaled_index() -> Objects:
    autoscaling = {"minReplicas": 2, "maxReplicas": 6, "metrics": [{"type": "Memory", "target": "80"}]}
    return index_objects(a_cortex_index(**META, spec__autoscaling=autoscaling), RELEASE, Scale(4, told=False))


@pytest.mark.parametrize(
    "case",
    [
        plain_index,
        full_index,
        autoscaled_index,
        monitored_index,
        claimed_index,
        index_with_models,
        ingest,
        workflow,
        cleanup,
    ],
    ids=lambda case: case.__name__,
)
def test_the_objects_are_as_in_the_golden_file(case: Any) -> None:
    path = GOLDEN / f"{case.__name__}.yaml"
    built = yaml.safe_dump_all(case(), sort_keys=False, width=120)
    if os.environ.get("CORTEX_UPDATE_GOLDEN"):
        path.write_text(built)
    assert built == path.read_text()


@given(name=NAMES, revision=REVISIONS)
def test_names_are_labels_of_at_most_63_characters_and_tell_resources_apart(name: str, revision: str) -> None:
    made = [
        names.search_name(name),
        names.search_headless_name(name),
        names.ingest_name(name, revision),
        names.graph_name(name),
        names.graph_headless_name(name),
    ]
    assert len(set(made)) == len(made)
    for one in made:
        assert len(one) <= 63
        assert re.match(DNS_LABEL, one)


@given(stem=st.text("abc", min_size=62, max_size=62))
def test_long_names_that_differ_at_the_end_stay_different(stem: str) -> None:
    assert names.ingest_name(stem + "a", "0" * 10) != names.ingest_name(stem + "b", "0" * 10)


QUANTITIES = st.sampled_from(["100m", "1", "3", "16"])


@given(
    name=RESOURCE_NAMES,
    replicas=st.none() | st.integers(0, 9),
    requests=st.dictionaries(st.sampled_from(["cpu", "memory"]), QUANTITIES),
    limits=st.dictionaries(st.sampled_from(["cpu", "memory"]), QUANTITIES),
)
def test_builders_are_deterministic_and_no_default_contradicts_what_the_resource_says(
    name: str, replicas: int | None, requests: dict[str, str], limits: dict[str, str]
) -> None:
    assume(all(parse_quantity(requests[name]) <= parse_quantity(limits[name]) for name in requests.keys() & limits))
    resources = {"requests": requests, "limits": limits}
    index = a_cortex_index(metadata__name=name, spec__replicas=replicas, spec__resources=resources)
    built = index_objects(index, RELEASE)
    assert built == index_objects(index, RELEASE)
    found = built[-1]["spec"]["template"]["spec"]["containers"][0]["resources"]
    for kind, given_by_user in resources.items():
        for what, quantity in given_by_user.items():
            assert found[kind][what] == quantity
    for what, quantity in found["requests"].items():
        assert parse_quantity(quantity) <= parse_quantity(found["limits"][what])


def of_kind(objects: Objects, kind: str) -> dict[str, Any] | None:
    return next((obj for obj in objects if obj["kind"] == kind), None)


def environment(objects: Objects) -> dict[str, str]:
    """What the container of the last object is given, with the ConfigMaps that it reads."""
    container = objects[-1]["spec"]["template"]["spec"]["containers"][0]
    env: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        config = of_kind(objects, "ConfigMap")
        assert config is not None
        assert config["metadata"]["name"] == source["configMapRef"]["name"]
        env |= config["data"]
    return env | {v["name"]: v.get("value", "from-elsewhere") for v in container["env"]}


def test_the_container_reads_back_what_was_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    for objects, settings in ((full_index(), SearchSettings), (ingest(), IngestSettings), (workflow(), GraphSettings)):
        with monkeypatch.context() as patch:
            for name, value in environment(objects).items():
                patch.setenv(name, value)
            read = settings()
        assert read.resource_namespace == "research"
        if isinstance(read, SearchSettings):
            assert (read.default_mode, read.default_top_k, read.drain_seconds) == ("Text", 25, 25.5)
        elif isinstance(read, IngestSettings):
            assert (read.revision, read.embedding_threads) == ("0a1b2c3d4e", 4)
        elif isinstance(read, GraphSettings):
            assert read.indexes["tickets"] == "dns:///tickets-search-headless.research.svc:50052"


def test_a_setting_that_changes_rolls_the_pods_and_nothing_secret_stands_in_the_config_map() -> None:
    def annotations(**spec: Any) -> dict[str, str]:
        found = index_objects(a_cortex_index(**spec), RELEASE)[-1]["spec"]["template"]["metadata"]["annotations"]
        return dict(found)

    assert annotations() != annotations(spec__retrieval__topK=3)
    assert annotations() == annotations(spec__replicas=3, spec__resources={"limits": {"cpu": "8"}})
    for objects in (full_index(), workflow()):
        config = of_kind(objects, "ConfigMap")
        assert config is not None
        assert not {"CORTEX_LAKE_DSN", "CORTEX_STATE_URL", "CORTEX_POD"} & config["data"].keys()
        assert not [name for name in config["data"] if name.startswith("CORTEX_PORT_")]


@pytest.mark.parametrize(("replicas", "budget"), [(None, False), (0, False), (1, False), (2, True), (9, True)])
def test_a_budget_keeps_all_pods_but_one_and_never_the_only_one(replicas: int | None, budget: bool) -> None:
    for objects in (
        index_objects(a_cortex_index(spec__replicas=replicas), RELEASE),
        workflow_objects(a_cortex_workflow(spec__replicas=replicas), RELEASE),
    ):
        assert (of_kind(objects, "PodDisruptionBudget") is not None) == budget


def test_the_operators_own_environment_does_not_leak_into_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (plain_index(), ingest(), workflow())
    for name in ("LOG_LEVEL", "PORT_GRPC", "LAKE_POOL_SIZE", "REVISION", "CATALOGUE_FILE"):
        monkeypatch.setenv(f"CORTEX_{name}", "7")
    assert (plain_index(), ingest(), workflow()) == before


def test_an_ingest_job_embeds_with_the_cpus_of_its_limit() -> None:
    release = ReleaseSettings("s", "g", ingest_resources=Resources(limits={"cpu": "2500m"}))
    env = ingest_job(a_cortex_index(), "0" * 10, release)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "CORTEX_EMBEDDING_THREADS", "value": "2"} in env


@pytest.mark.parametrize(
    ("durability", "duration", "runs"),
    [("Async", "4m", 0), ("Sync", "4m", 0), ("Exit", "4m", 240), ("Exit", "500ms", 0.5), ("Exit", "2h", 300)],
)
def test_a_pod_has_time_to_end_runs_that_would_begin_again(durability: str, duration: str, runs: float) -> None:
    built = workflow_objects(
        a_cortex_workflow(spec__execution={"durability": durability}, spec__limits={"duration": duration}), RELEASE
    )
    seconds = built[-1]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert seconds == math.ceil(RELEASE.drain_seconds + runs) + 10
    assert float(environment(built).get("CORTEX_RUN_DRAIN_SECONDS", 0)) == runs
