"""What passes between observe, plan, apply and status, of both kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from cortex_kinds.common import CommonStatus

from cortex_operator.cluster import Cluster, Object, ObjectKey, Recorder, log_notices
from cortex_operator.dataplane import DataPlane, Description
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.manifests.reach import Backend, Reach
from cortex_operator.reconcile.fleet import Fleet, Standing
from cortex_operator.reconcile.keda import Keda
from cortex_operator.reconcile.named import Named
from cortex_operator.reconcile.placement import Nodes
from cortex_operator.reconcile.recent import Recent
from cortex_operator.reconcile.uses import Uses

_RECENT: Final = 5.0
"""Seconds for which what was looked up for one resource is good for others."""


@dataclass(frozen=True)
class Timing:
    """When to look again though nothing happened; seconds."""

    moving: float = 2.0
    """While something moves: pods start, a revision is built, documents wait."""
    idle: float = 30.0
    """Otherwise."""
    missing: float = 15.0
    """While a Secret, a node, a right or a quota is missing: these are not watched."""
    cleanup: float = 600.0
    """For how long at most a deleted resource waits until its data is dropped."""
    details: float = 10.0
    """Between two writes of a status that say the same in other words or counts."""


@dataclass(frozen=True)
class World:
    """Where to look and what holds for all resources."""

    cluster: Cluster
    dataplane: DataPlane
    release: ReleaseSettings
    timing: Timing = field(default_factory=Timing)
    uses: Uses = field(default_factory=Uses)
    """Which workflows name which index, as the engine was told."""
    labels: Recent[str, Mapping[str, str]] = field(default_factory=lambda: Recent(_RECENT))
    """Of namespaces."""
    nodes: Recent[str, Nodes] = field(default_factory=lambda: Recent(_RECENT))
    """The nodes and all that is on them, for every resource that waits for a GPU."""
    named: Named = field(default_factory=Named)
    backends: Recent[tuple[str, str], Backend] = field(default_factory=lambda: Recent(_RECENT))
    """Services, by namespace and name, that hosts in Secrets are."""
    fleet: Fleet | None = None
    """Who moves to `release` when; None: everybody at once."""
    record: Recorder = log_notices
    """Tells Events; returns at once and never fails."""


@dataclass(frozen=True)
class MissingReference:
    """A Secret or ConfigMap, or a key of one, or a PersistentVolumeClaim, that is not there or holds what no pod could
    read. `example`: a value that shows the form."""

    namespace: str
    name: str
    key: str
    found: bool
    example: str
    kind: str = "Secret"
    """Secret, ConfigMap or PersistentVolumeClaim."""
    make: str = "secret generic"
    """What `kubectl create` makes; empty: it makes no object of this kind from words alone."""

    unreadable: bool = False
    """It is there, and pods would end at its value."""

    @property
    def message(self) -> str:
        """What is missing, and what makes it: in a cluster a command, on this machine a manifest."""
        return f"{self._command}; with cortex up: a manifest of kind {self.kind} in the folder of -f"

    @property
    def _command(self) -> str:
        if self.found:
            field = "stringData" if self.kind == "Secret" else "data"
            wrong = (
                f"the value of key {self.key!r} in {self.kind} {self.name} cannot be read as an address (characters "
                "@:/?#% of a password are written %40 and so on); replace it"
                if self.unreadable
                else f"{self.kind} {self.name} has no key {self.key!r}; add it"
            )
            return (
                f"{wrong}: kubectl -n {self.namespace} patch "
                f'{self.kind.lower()} {self.name} -p \'{{"{field}":{{"{self.key}":"{self.example}"}}}}\''
            )
        if not self.make:
            return (
                f"{self.kind} {self.name} is not there; create it: kubectl -n {self.namespace} apply -f FILE with that "
                f"{self.kind}"
            )
        literal = f" --from-literal={self.key}='{self.example}'" if self.key else ""
        return (
            f"{self.kind} {self.name} is not there; create it: kubectl -n {self.namespace} create {self.make} "
            f"{self.name}{literal}"
        )


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The world as far as one resource goes."""

    now: datetime
    deployment: Object | None
    pods: tuple[Object, ...]
    missing_references: tuple[MissingReference, ...]
    description: Description | None
    unreachable: str = ""
    """Why there is no description."""
    unlisted: str = ""
    """That the Service does not list the ready pods; empty when it does, or when a pod could be asked."""
    autoscaler: Object | None = None
    """The operator's own HorizontalPodAutoscaler, where there is to be one."""
    keda: Keda = field(default_factory=Keda)
    """KEDA's part in the number of pods."""
    unclaimable: str = ""
    """Why GPUs cannot be claimed, though they are asked for so."""
    nodes: Nodes = field(default_factory=Nodes)
    """Looked at only while a pod waits for a GPU."""
    leftovers: tuple[tuple[ObjectKey, str], ...] = ()
    """Objects of the resource that must not be there any more, with their uid."""
    reach: Reach = field(default_factory=Reach)
    """Where its pods must get to."""
    standing: Standing = field(default_factory=Standing)
    """Whether it may move to the operator's release."""
    settings: dict[str, str] | None = None
    """What its ConfigMap holds, where its pods are of another release; None: there is none."""
    reads: Mapping[str, str | None] = field(default_factory=dict)
    """Secrets and ConfigMaps that its pods read (`secret/NAME`), with a digest where changes are to reach them."""
    refused: str = ""
    """What the cluster refused to store, in this pass."""
    lingers: str = ""
    """What of the namesake that was deleted is still in the way, in this pass."""
    revision_refused: str = ""
    """Why a pod refused the desired revision, in this pass."""

    @property
    def waits(self) -> str:
        """What must go before all can be applied, as a sentence; empty: nothing."""
        return self.keda.waits or self.lingers


@dataclass(frozen=True)
class EnsureRevision:
    """An order to the data plane."""

    revision: str
    definition: dict[str, Any]
    retain: int


@dataclass(frozen=True)
class Plan:
    """What one pass does."""

    status: CommonStatus
    again: float | None
    """Seconds until the next look; None: when something happens."""
    apply: tuple[Object, ...] = ()
    delete: tuple[tuple[ObjectKey, str], ...] = ()
    """With the uid that is meant. Before anything is applied."""
    hand_over: Object | None = None
    """The Deployment's number of pods, for another field manager; before `apply` leaves it out."""
    ensure: EnsureRevision | None = None
