"""What both specs and both statuses have in common."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import ConfigDict, Field, model_validator

from cortex_kinds.autoscaling import REPLICAS_OR_AUTOSCALING, Autoscaling
from cortex_kinds.base import DNS_LABEL, Model, Name, ResourceQuantity, Whole, parse_quantity
from cortex_kinds.cel import Rule
from cortex_kinds.deletion import DeletionPolicy
from cortex_kinds.environment import Env, EnvSources
from cortex_kinds.gpu import GPU
from cortex_kinds.lists import keyed, unique
from cortex_kinds.network import Network
from cortex_kinds.placement import Placement
from cortex_kinds.podmetadata import PodMetadata
from cortex_kinds.references import ObjectName, SecretRef
from cortex_kinds.trust import CABundle
from cortex_kinds.update import Update

ResourceName = Annotated[str, Field(min_length=1, max_length=253)]
"""What a container can ask for: `cpu`, `memory`, `ephemeral-storage`."""


def _no_gpu_in(field: str) -> Rule:
    vendors = " || ".join(f"name.startsWith('{domain}/')" for domain in ("nvidia.com", "amd.com", "gpu.intel.com"))
    found = f"self.{field}.exists(name, {vendors})"
    message = f"GPUs are asked for by spec.gpu, not by resources.{field}: placement and rollout depend on them"
    return Rule(f"!has(self.{field}) || !{found}", message, f".{field}")


class Resources(Model):
    """Requests and limits of the serving container, as in a pod."""

    rules: ClassVar[tuple[Rule, ...]] = (_no_gpu_in("requests"), _no_gpu_in("limits"))

    requests: Annotated[dict[ResourceName, ResourceQuantity], Field(max_length=16)] = Field(default_factory=dict)
    """Reserved for each pod: `{cpu: 2, memory: 4Gi}`. A fraction is a string: `"2.5"` or `2500m`."""
    limits: Annotated[dict[ResourceName, ResourceQuantity], Field(max_length=16)] = Field(default_factory=dict)
    """The most that each pod gets, written as in `requests`."""

    @model_validator(mode="after")
    def _requests_are_within_limits(self) -> Self:
        for name in sorted(self.requests.keys() & self.limits.keys()):
            request, limit = self.requests[name], self.limits[name]
            if parse_quantity(request) > parse_quantity(limit):
                raise ValueError(
                    f"requests.{name} {request} is above limits.{name} {limit}: lower it or raise the limit"
                )
        return self


class StateAccess(Model):
    """Where the shared state (Valkey or Redis) is."""

    secret_ref: SecretRef = SecretRef(name="cortex-state")
    """The Secret's key `url` is a redis:// or rediss:// URL."""


class LakeAccess(Model):
    """Where the Lake (PostgreSQL with pgvector) is."""

    secret_ref: SecretRef = SecretRef(name="cortex-lake")
    """The Secret's key `dsn` is a postgresql:// URL."""


class CommonSpec(Model):
    """Fields of both kinds."""

    rules: ClassVar[tuple[Rule, ...]] = (REPLICAS_OR_AUTOSCALING,)

    image: Annotated[str, Field(max_length=512)] = ""
    """Container image; empty: the release's."""
    replicas: Annotated[int, Field(ge=0, le=1000), Whole] | None = None
    """How many pods serve; unset: 1. Not together with `autoscaling`."""
    autoscaling: Autoscaling | None = None
    """In place of `replicas`: as many pods as their load asks for."""
    resources: Resources = Resources()
    """Requests and limits of the serving container; unset: the defaults of the service."""
    gpu: GPU | None = None
    """GPUs of each serving pod; unset: none. Ingest Jobs take none."""
    update: Update = Update()
    """How a change of the pods reaches those that serve."""
    placement: Placement = Placement()
    """Where pods may run."""
    template: PodMetadata = PodMetadata()
    """Labels and annotations of the pods."""
    service_account_name: ObjectName | None = None
    """A ServiceAccount of the resource's namespace for the pods; unset: one of their own, without rights. Its token is
    not mounted."""
    image_pull_secrets: Annotated[list[SecretRef], keyed("name", most=16), unique("name")] | None = None
    """Secrets of the resource's namespace for the registry that the image comes from."""
    env: Env | None = None
    """Variables of the containers beside those of the operator."""
    env_from: EnvSources | None = None
    """Variables from Secrets and ConfigMaps; those of `env` and of the operator win."""
    ca_bundle: CABundle | None = None
    """Whom the pods trust when they connect by TLS: to the Lake (`sslmode=verify-full`), to the shared state
    (`rediss://`), to the receiver of traces. Unset: the image's own authorities."""
    network: Network = Network()
    """With whom the pods may speak; a NetworkPolicy allows what they need, and nothing else."""
    suspend: Annotated[bool, Field(strict=True)] = False
    """Whether nothing of it runs, neither pods nor ingest Jobs. Everything else is kept: documents, revisions, threads,
    Services. With `false` again it has as many pods as before."""
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """What becomes of its data when it is deleted: documents, revisions, threads and runs in the Lake, its keys in the
    shared state. Retain: it stays, and a resource of the same name has it again. Delete: it is dropped first."""
    state: StateAccess = StateAccess()
    """The shared state."""
    lake: LakeAccess = LakeAccess()
    """The durable store."""

    @property
    def desired_replicas(self) -> int:
        """How many pods there are to be, with autoscaling at least: `minReplicas`, `replicas`, or what holds when both
        are unset; none while it is suspended."""
        if self.suspend:
            return 0
        return self.autoscaling.min_replicas if self.autoscaling is not None else self.most_replicas

    @property
    def most_replicas(self) -> int:
        """How many pods there may be when it is not suspended."""
        if self.autoscaling is not None:
            return self.autoscaling.max_replicas
        return 1 if self.replicas is None else self.replicas


class ObjectMeta(Model):
    """The metadata that Cortex reads; the API server keeps the rest."""

    model_config = ConfigDict(extra="ignore")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "size(self.name) <= 40",
            "a name has at most 40 characters: names of objects derive from it, and those end at 63",
            ".name",
        ),
        Rule(
            "self.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "a name begins with a letter and has only a-z, 0-9 and -: names of Services derive from it",
            ".name",
        ),
    )

    name: Name
    """DNS label; the names of the resource's objects derive from it."""
    namespace: Annotated[str, Field(max_length=63, pattern=DNS_LABEL)] = "default"
    """Kubernetes namespace."""
    uid: Annotated[str, Field(max_length=64)] = ""
    """Given by the API server."""
    generation: Annotated[int, Field(ge=0), Whole] = 0
    """Counts changes of the spec; given by the API server."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Those of the resource itself."""


class Condition(Model):
    """A condition as Kubernetes has it (metav1.Condition)."""

    type: Annotated[str, Field(max_length=316)]
    """CamelCase."""
    status: Annotated[str, Field(pattern="^(True|False|Unknown)$")]
    """True, False or Unknown."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """CamelCase and stable."""
    message: Annotated[str, Field(max_length=1024)]
    """What is the case and what to do."""
    last_transition_time: Annotated[str, Field(max_length=64)]
    """RFC 3339, UTC: when `status` changed last."""
    observed_generation: Annotated[int, Field(ge=0), Whole] = 0
    """The generation that it is about."""


class RevisionStatus(Model):
    """A revision, copied from the Lake."""

    id: Annotated[str, Field(pattern="^[0-9a-f]{10}$")]
    """First 10 hex digits of the definition's fingerprint."""
    phase: Annotated[str, Field(max_length=16)]
    """Building, Ready, Ramping, Current, Draining, Retained or Failed."""
    documents: Annotated[int, Field(ge=0), Whole] | None = None
    """Documents embedded in it (indexes)."""
    chunks: Annotated[int, Field(ge=0), Whole] | None = None
    """Chunks in it (indexes)."""
    waiting: Annotated[int, Field(ge=0), Whole] | None = None
    """Documents that wait to be embedded in it (indexes)."""
    created_at: Annotated[str, Field(max_length=64)] = ""
    """RFC 3339, UTC."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """Why it failed, or what it waits for."""


class CommonStatus(Model):
    """Status fields of both kinds."""

    model_config = ConfigDict(extra="ignore")

    observed_generation: Annotated[int, Field(ge=-1), Whole] = -1
    """The generation that the status is about; -1 until the operator has seen the resource."""
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
        ),
    ] = Field(default_factory=list)
    """Ready is always there; others as the reference of conditions says."""
    replicas: Annotated[int, Field(ge=0), Whole] = 0
    """Pods that exist."""
    ready_replicas: Annotated[int, Field(ge=0), Whole] = 0
    """Pods that serve."""
    selector: Annotated[str, Field(max_length=512)] = ""
    """Label selector of the pods, for the scale subresource."""
    endpoint: Annotated[str, Field(max_length=512)] = ""
    """gRPC address of the service inside the cluster."""
    image: Annotated[str, Field(max_length=512)] = ""
    """The image that runs."""
    current_revision: Annotated[str, Field(max_length=10)] = ""
    """The revision that answers."""
    revisions: Annotated[list[RevisionStatus], Field(max_length=16)] = Field(default_factory=list)
    """Revisions in the Lake, newest first."""
