"""The operator's environment, as a class: every variable is `CORTEX_` + the field's name in upper case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from cortex_kinds.autoscaling import HTTP_URL
from cortex_kinds.common import Resources
from cortex_kinds.labels import LabelKey, LabelValue
from cortex_kinds.lists import unique
from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from cortex_operator.manifests import ReleaseSettings
from cortex_operator.manifests.gpupool import GPUPool
from cortex_operator.manifests.isolation import Isolation
from cortex_operator.manifests.release import GRAPH_RESOURCES, SEARCH_RESOURCES
from cortex_operator.reconcile.fleet import WorkloadUpdates

PREFIX: Final = "CORTEX_"
_Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
_Namespace = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]


class OperatorSettings(BaseSettings):
    """What the operator reads; which cluster, it takes from the pod's service account or KUBECONFIG."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    namespace: _Namespace = "cortex-system"
    """Where the operator itself is."""
    pod: str = "local"
    """The pod's name, for the logs and the Lease."""
    lease: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)] = "cortex-operator"
    """Name of the Lease, in the operator's namespace, that the operators of one release share."""
    lease_seconds: Annotated[int, Field(ge=3, le=300)] = 15
    """How long others wait for a leader that says nothing any more."""
    watch_namespaces: tuple[_Namespace, ...] = ()
    """JSON list; empty: all namespaces, which needs cluster-wide rights."""
    search_image: Annotated[str, Field(min_length=1)]
    """Image of search and ingest."""
    graph_image: Annotated[str, Field(min_length=1)]
    """Image of graph."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    search_resources: Resources = SEARCH_RESOURCES
    """Requests and limits of a search pod: JSON {"requests": {}, "limits": {}}."""
    graph_resources: Resources = GRAPH_RESOURCES
    """Of a graph pod."""
    ingest_resources: Resources = SEARCH_RESOURCES
    """Of an ingest pod."""
    drain_seconds: Annotated[float, Field(ge=0)] = 10.0
    """How long calls in progress of a workload may take after SIGTERM."""
    log_level: _Level = "INFO"
    """Of the operator."""
    workload_log_level: _Level = "INFO"
    """Of the workloads."""
    gpu_pools: Annotated[tuple[GPUPool, ...], unique("name")] = ()
    """What `spec.gpu.pool` may name: JSON list of {"name", "nodeSelector": {}, "tolerations": []}."""
    isolation: Isolation = Isolation()
    """NetworkPolicies of the resources: JSON; unset: for a release called "cortex"."""
    pod_monitors: bool = True
    """Whether each resource gets a PodMonitor, where the cluster serves that kind."""
    pod_monitor_labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    """JSON; labels of the PodMonitors, by which a Prometheus selects them."""
    prometheus_address: Annotated[str, Field(pattern=f"^$|{HTTP_URL}", max_length=512)] = ""
    """URL of the Prometheus that `spec.autoscaling` asks where it names none."""
    discovery_seconds: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """Between two looks at which of the optional kinds (PodMonitor and such) the cluster serves, and at whether rights
    have come in those of `watch_namespaces` where the operator lacked some."""
    image_pull_secrets: tuple[str, ...] = ()
    """JSON list of Secrets of the operator's namespace, for the images of Jobs that run there."""
    orphans: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)] = (
        "datapunk-cortex-orphans"
    )
    """Name of the ConfigMap, in the operator's namespace, that names data that belongs to no resource."""
    cleanup_seconds: Annotated[float, Field(ge=1, le=600)] = 600.0
    """For how long at most a deleted resource waits until its data is dropped."""
    otlp_endpoint: str = ""
    """Where the workloads send traces; empty: none are sent."""
    listen_host: str = "0.0.0.0"  # noqa: S104 - a pod's own address
    """Address of the HTTP port."""
    port_metrics: Annotated[int, Field(ge=0, le=65535)] = 9090
    """HTTP: /livez, /readyz, /metrics."""
    workload_updates: WorkloadUpdates = WorkloadUpdates.ONE_AT_A_TIME
    """How resources move to this release: OneAtATime or Manual."""
    reload: bool = False
    """Whether Secrets and ConfigMaps with the label cortex.datapunk.io/reload=true are watched, and replace pods."""
    workers: Annotated[int, Field(ge=1, le=64)] = 8
    """How many resources are reconciled at the same time."""

    @property
    def reload_secret(self) -> str:
        """The Secret of the operator's namespace with the key of reload digests."""
        return f"{self.lease}-reload"

    @property
    def release(self) -> ReleaseSettings:
        """What the installation decides for its resources."""
        return ReleaseSettings(
            search_image=self.search_image,
            graph_image=self.graph_image,
            image_pull_policy=self.image_pull_policy,
            namespace=self.namespace,
            search_resources=self.search_resources,
            graph_resources=self.graph_resources,
            ingest_resources=self.ingest_resources,
            drain_seconds=self.drain_seconds,
            log_level=self.workload_log_level,
            gpu_pools=self.gpu_pools,
            isolation=self.isolation,
            pod_monitors=self.pod_monitors,
            pod_monitor_labels=self.pod_monitor_labels,
            image_pull_secrets=self.image_pull_secrets,
            orphans=self.orphans,
            prometheus_address=self.prometheus_address,
            otlp_endpoint=self.otlp_endpoint,
        )


class _Given(OperatorSettings):
    """Reads nothing of this process's environment."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given alone."""
        return (init_settings,)


def settings_of(variables: Mapping[str, str]) -> OperatorSettings:
    """The settings of an operator that runs elsewhere, by its environment. Raises ValidationError, SettingsError."""
    source = EnvSettingsSource(_Given)
    source.env_vars = {name.lower(): value for name, value in variables.items()}
    return _Given(**source())


def mistakes(error: ValidationError | SettingsError) -> str:
    """What is wrong with the environment, one sentence per variable."""
    if isinstance(error, SettingsError):
        found = re.search(r'field "(\w+)"', str(error))
        name = PREFIX + found[1].upper() if found else str(error)
        return f'the environment variable {name} is not valid JSON (a list is written ["a", "b"])'
    return "; ".join(
        f"the environment variable {PREFIX}{str(mistake['loc'][0]).upper()} is "
        f"{'not set' if mistake['type'] == 'missing' and not mistake['loc'][1:] else 'not valid: ' + _where(mistake)}"
        for mistake in error.errors()
    )


def _where(mistake: ErrorDetails) -> str:
    """What is wrong, and where in a variable that is JSON."""
    place = ".".join(map(str, mistake["loc"][1:]))
    return f"{place}: {mistake['msg']}" if place else mistake["msg"]
