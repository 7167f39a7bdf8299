"""The environment of every container, as classes: the container reads it FROM them, the operator renders it from them.

Every variable is `CORTEX_` + the field's name in upper case. This module imports nothing of the services but
their policies; defaults that a spec has too come from `cortex_kinds`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

from cortex_kinds.cache import MOST_WARMED, IndexCache, WorkflowCache
from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from cortex_workloads.runtime.resilience.policies import (
    BreakerPolicy,
    GatewayLimits,
    GatewayPolicies,
    GraphPolicies,
    Policies,
    RetryPolicy,
    SearchLimits,
    SearchPolicies,
    SearchSeconds,
)

PREFIX: Final = "CORTEX_"
MODELS_DIRECTORY: Final = Path("/var/lib/cortex/models")
"""Where a pod has the volume of `spec.storage.models`."""
POLICIES_FILE: Final = Path("/etc/cortex/policies/policies.json")
"""Where a pod has the policies of `spec.resilience`."""
_INDEX: Final = IndexCache()
_WORKFLOW: Final = WorkflowCache()


class Settings(BaseSettings):
    """What every service reads."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    pod: str = "local"
    """The pod's name (downward API)."""
    listen_host: str = "0.0.0.0"  # noqa: S104 - a pod's own address; the gateway and local mode choose loopback
    """Address to bind."""
    port_metrics: Annotated[int, Field(ge=0, le=65535)] = 9090
    """HTTP: /metrics, /livez, /readyz."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""
    drain_seconds: Annotated[float, Field(ge=0)] = 10.0
    """After SIGTERM: how long calls in progress may take."""
    otlp_endpoint: str = ""
    """OTLP/gRPC address for traces; empty: none are sent."""
    catalogue_file: Path | None = None
    """Local mode: the file that says which resources there are and where their pods listen (runtime/catalogue.py).
    Unset in a cluster, where DNS and the API server say so."""
    state_url: SecretStr = SecretStr("")
    """redis:// or rediss:// URL of the shared state."""

    @property
    def ending_seconds(self) -> float:
        """After SIGTERM: how long the process takes to end, at most."""
        return self.drain_seconds

    def to_env(self) -> dict[str, str]:
        """What was set and differs from the default, as environment variables. Secrets are left out: they are
        references in a pod, never values."""
        env: dict[str, str] = {}
        for name in sorted(self.model_fields_set):
            value: Any = getattr(self, name)
            if isinstance(value, SecretStr) or value == type(self).model_fields[name].default:
                continue
            env[env_name(name)] = value if isinstance(value, str) else _dump(value)
        return env


def env_name(field: str) -> str:
    """The environment variable of a field."""
    return PREFIX + field.upper()


def _dump(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, BaseModel):
        return value.model_dump_json(by_alias=True, exclude_defaults=True)
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


class ChangingSettings(Settings):
    """What those services read whose policies may change while they run."""

    policies_file: Path | None = None
    """JSON or YAML: policies over those of the environment, followed while the process runs. May be missing."""

    @property
    def policies(self) -> Policies:
        """Those of the environment."""
        raise NotImplementedError


class CallerSettings(ChangingSettings):
    """What those services read that call the pods of a resource."""

    breaker: BreakerPolicy = BreakerPolicy()
    """As JSON, camelCase; docs/resilience.md says what each field does."""


class WorkloadSettings(Settings):
    """What the pods of a resource read."""

    resource_namespace: str = "default"
    """Namespace of the custom resource."""
    resource_name: str = ""
    """Name of the custom resource."""
    lake_dsn: SecretStr = SecretStr("")
    """postgresql:// URL of the Lake."""
    lake_pool_size: Annotated[int, Field(ge=1, le=200)] = 10
    """Connections to the Lake, at most."""
    port_control: Annotated[int, Field(ge=0, le=65535)] = 50059
    """gRPC: ControlService, for the operator."""
    embedding_threads: Annotated[int, Field(ge=1, le=64)] = 1
    """Threads that one embedding uses."""


class SearchSettings(WorkloadSettings, ChangingSettings):
    """`python -m cortex_workloads.search`: serves a CortexIndex."""

    port_grpc: Annotated[int, Field(ge=0, le=65535)] = 50052
    """gRPC: HaystackService."""
    default_mode: str = "Hybrid"
    """spec.retrieval.mode."""
    default_top_k: Annotated[int, Field(ge=1, le=1000)] = 10
    """spec.retrieval.topK."""
    limits: SearchLimits = SearchLimits()
    """As JSON, camelCase; docs/resilience.md says what each field does."""
    query_cache_bytes: Annotated[int, Field(ge=0)] = _INDEX.queries.memory_bytes
    """Memory for the vectors of queries that were asked before, about 2 kB each; 0: none are kept."""
    query_cache_seconds: Annotated[float, Field(gt=0)] = _INDEX.queries.ttl_seconds
    """How long such a vector is kept, at most."""
    answer_cache_bytes: Annotated[int, Field(ge=0)] = _INDEX.answers.memory_bytes
    """Memory for answers of searches, some kB each; 0: none are kept in the pod."""
    answer_cache_shared_entry_bytes: Annotated[int, Field(ge=0)] = _INDEX.answers.shared_entry_bytes
    """The largest answer that is kept in the shared state, compressed; 0: none are."""
    answer_cache_seconds: Annotated[float, Field(gt=0)] = _INDEX.answers.ttl_seconds
    """How long an answer is kept, at most; it is given only while nothing has changed that it depends on."""
    warming_requests: Annotated[int, Field(ge=0, le=MOST_WARMED)] = _INDEX.warming.requests
    """How many of the most-used requests are answered ahead, in a pod that begins and when another revision answers;
    0: none, and none are counted or told to the shared state."""
    models_directory: Path | None = None
    """Where the directories of models of one's own are; unset: there are none."""

    @property
    def policies(self) -> SearchPolicies:
        """Those of the environment."""
        return SearchPolicies(limits=self.limits)


class IngestSettings(WorkloadSettings):
    """`python -m cortex_workloads.search.ingest`: a Job that embeds what waits for one revision, then ends."""

    revision: str = ""
    """The revision to embed for; when it is Building, it is promoted when nothing waits any more."""
    models_directory: Path | None = None
    """Where the directories of models of one's own are; unset: there are none."""


class DropSettings(WorkloadSettings):
    """`python -m cortex_workloads.search.drop` and `.graph.drop`: a Job that drops the data of a resource."""

    drop_before: Annotated[float, Field(ge=0)] = 0.0
    """Seconds since 1970 (UTC) after which nothing is dropped any more, as the name may be in use again; 0: never."""


class GraphSettings(WorkloadSettings, CallerSettings):
    """`python -m cortex_workloads.graph`: serves a CortexWorkflow."""

    port_grpc: Annotated[int, Field(ge=0, le=65535)] = 50053
    """gRPC: GraphService."""
    indexes: dict[str, str] = Field(default_factory=dict)
    """Index name -> gRPC target of its headless Service, `dns:///SERVICE.NAMESPACE.svc:50052`; only of those that the
    workflow may use."""
    index_namespaces: dict[str, str] = Field(default={})
    """Index name -> its namespace, where that is not the workflow's."""
    node_cache_bytes: Annotated[int, Field(ge=0)] = _WORKFLOW.node_results.memory_bytes
    """Memory for results of nodes with `cache`; 0: none are kept in the pod."""
    node_cache_shared_entry_bytes: Annotated[int, Field(ge=0)] = _WORKFLOW.node_results.shared_entry_bytes
    """The largest result that is kept in the shared state, compressed; 0: none are."""
    run_drain_seconds: Annotated[float, Field(ge=0)] = 0.0
    """After SIGTERM: how long runs may go on to their end before another pod gets them; new ones are refused."""

    @property
    def ending_seconds(self) -> float:
        """After SIGTERM: how long the process takes to end, at most."""
        return self.drain_seconds + self.run_drain_seconds

    @property
    def policies(self) -> GraphPolicies:
        """Those of the environment."""
        return GraphPolicies(breaker=self.breaker)


class GatewaySettings(CallerSettings):
    """`python -m cortex_workloads.gateway`."""

    listen_host: str = "127.0.0.1"
    """Address to bind. Another than a loopback address needs `insecure_listen` until there is authentication."""
    insecure_listen: bool = False
    """Bind an address that others can reach, although anybody can then read and write everything."""
    port_http: Annotated[int, Field(ge=0, le=65535)] = 8001
    """REST."""
    port_grpc: Annotated[int, Field(ge=0, le=65535)] = 50051
    """gRPC: CortexAPI."""
    limits: GatewayLimits = GatewayLimits()
    """As JSON, camelCase; docs/resilience.md says what each field does."""
    retries: RetryPolicy = RetryPolicy()
    """As JSON, camelCase; docs/resilience.md says what each field does."""
    search_seconds: SearchSeconds = GatewayPolicies().search_seconds
    """The time for a search whose caller set none."""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces whose resources are served, as a JSON list; empty: all. Of no effect with `catalogue_file`."""

    @property
    def policies(self) -> GatewayPolicies:
        """Those of the environment."""
        return GatewayPolicies(
            breaker=self.breaker, retries=self.retries, limits=self.limits, search_seconds=self.search_seconds
        )
