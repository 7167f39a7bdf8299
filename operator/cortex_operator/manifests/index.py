"""All objects of a CortexIndex."""

from __future__ import annotations

import math
from typing import Any

from cortex_kinds.base import parse_quantity
from cortex_kinds.cache import IndexCache
from cortex_kinds.common import Resources
from cortex_kinds.index import CortexIndex
from cortex_workloads.runtime.settings import POLICIES_FILE, IngestSettings, SearchSettings

from cortex_operator.manifests import names
from cortex_operator.manifests.container import Container, secrets_of
from cortex_operator.manifests.job import job
from cortex_operator.manifests.labels import REVISION_LABEL, Part, pods_of_workflows
from cortex_operator.manifests.network import Peer, selector
from cortex_operator.manifests.placement import job_scheduling
from cortex_operator.manifests.pod import pod_template
from cortex_operator.manifests.policies import index_policies, policies_volume
from cortex_operator.manifests.reach import Reach
from cortex_operator.manifests.release import ReleaseSettings
from cortex_operator.manifests.scale import Scale
from cortex_operator.manifests.serving import Serving, serving_objects
from cortex_operator.manifests.storage import index_volumes, models_directory

_PORTS = {"grpc": names.SEARCH_PORT, "control": names.CONTROL_PORT, "metrics": names.METRICS_PORT}


def index_objects(
    index: CortexIndex, release: ReleaseSettings, scale: Scale | None = None, reach: Reach | None = None
) -> tuple[dict[str, Any], ...]:
    """The index's objects, in the order in which they are applied. `scale`: unless it is as the spec alone says.
    `reach`: where its pods must get to."""
    name = index.metadata.name
    container = _search_container(index, release)
    headless = names.search_headless_name(name)
    policies = index_policies(index.spec)
    serving = Serving(Part(index, "search"), names.search_name(name), headless, container, policies, _clients(index))
    return serving_objects(serving, release, scale, reach)


def ingest_job(index: CortexIndex, revision: str, release: ReleaseSettings) -> dict[str, Any]:
    """The Job that embeds what waits for a revision of the index, then ends. Its settings stand in the Job itself: a
    Job cannot be changed, so they are those that it began with. It takes no GPU."""
    part = Part(index, "ingest")
    container = _ingest_container(index, revision, release)
    account = names.search_name(index.metadata.name)
    template = pod_template(
        part,
        container.build(index.spec, release),
        account,
        container.settings.ending_seconds,
        labels={REVISION_LABEL: revision},
        scheduling=job_scheduling(index.spec.placement),
        volumes=container.volumes,
    )
    return job(part, names.ingest_name(index.metadata.name, revision), revision, template)


def _clients(index: CortexIndex) -> tuple[Peer, ...]:
    """The workflows of the namespaces that may use it."""
    workflows = {"podSelector": {"matchLabels": pods_of_workflows()}}
    others = index.spec.access.others
    return (workflows, {"namespaceSelector": selector(others), **workflows}) if others is not None else (workflows,)


def _search_container(index: CortexIndex, release: ReleaseSettings) -> Container:
    cache = index.spec.cache or IndexCache()
    # model_construct: the settings must hold what stands here and nothing from the operator's own environment.
    settings = SearchSettings.model_construct(
        resource_namespace=index.metadata.namespace,
        resource_name=index.metadata.name,
        default_mode=index.spec.retrieval.mode.value,
        default_top_k=index.spec.retrieval.top_k,
        log_level=release.log_level,
        otlp_endpoint=release.otlp_endpoint,
        drain_seconds=release.drain_seconds,
        models_directory=models_directory(index.spec),
        policies_file=POLICIES_FILE,
        query_cache_bytes=cache.queries.memory_bytes,
        query_cache_seconds=cache.queries.ttl_seconds,
        answer_cache_bytes=cache.answers.memory_bytes,
        answer_cache_shared_entry_bytes=cache.answers.shared_entry_bytes,
        answer_cache_seconds=cache.answers.ttl_seconds,
        warming_requests=cache.warming.requests,
    )
    return Container(
        "search",
        release.search_image,
        "cortex_workloads.search",
        settings,
        _PORTS,
        release.search_resources,
        secrets_of(index.spec),
        (*index_volumes(index.spec), policies_volume(names.search_name(index.metadata.name))),
    )


def _ingest_container(index: CortexIndex, revision: str, release: ReleaseSettings) -> Container:
    settings = IngestSettings.model_construct(
        resource_namespace=index.metadata.namespace,
        resource_name=index.metadata.name,
        revision=revision,
        embedding_threads=_threads(index.spec.resources, release.ingest_resources),
        log_level=release.log_level,
        otlp_endpoint=release.otlp_endpoint,
        drain_seconds=release.drain_seconds,
        models_directory=models_directory(index.spec),
    )
    return Container(
        "ingest",
        release.search_image,
        "cortex_workloads.search.ingest",
        settings,
        {"metrics": names.METRICS_PORT},
        release.ingest_resources,
        secrets_of(index.spec),
        index_volumes(index.spec),
    )


def _threads(own: Resources, default: Resources) -> int:
    cpus = {**default.limits, **own.limits}.get("cpu", "1")
    return min(max(1, math.floor(parse_quantity(cpus))), 64)
