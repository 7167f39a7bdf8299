"""Conditions of both kinds: their types, their stable reasons, and the rules by which they change.

Shields the operator from the bookkeeping that clients (kubectl wait, kstatus, Argo CD) rely on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from cortex_kinds.common import Condition

MESSAGE_LIMIT: Final = 1024


class ConditionType(StrEnum):
    """What a condition is about."""

    READY = "Ready"
    """The resource answers, with this generation of its spec. Always present."""
    RECONCILING = "Reconciling"
    """The operator is still working towards the spec. Present only while True."""
    STALLED = "Stalled"
    """Nothing goes on until somebody changes something; the message says what. Present only while True."""
    DEPENDENCIES_READY = "DependenciesReady"
    """What the resource needs is there: Secrets, the Lake, the shared state, indexes."""
    INDEX_READY = "IndexReady"
    """CortexIndex: a revision of the index answers. CortexWorkflow: every index that it names is there, may be used and
    answers; present only with `spec.indexes`."""
    GRAPH_VALID = "GraphValid"
    """CortexWorkflow: the graph can run."""
    SCHEDULABLE = "Schedulable"
    """Every pod has a node; the message says what no node offers."""
    SUSPENDED = "Suspended"
    """Nothing of the resource runs, as `spec.suspend` says. Present only while it says so."""
    DELETED_IN_USE = "DeletedInUse"
    """CortexIndex: it is being deleted although workflows use it. Present only while True."""
    AUTOSCALING_READY = "AutoscalingReady"
    """The number of pods follows what they use. Present only with `spec.autoscaling`."""
    UPDATE_PENDING = "UpdatePending"
    """Pods are of an earlier release than the operator, or are being replaced by those of its release. Present only
    while True; it says nothing about whether the resource answers."""
    DATA_CLEANUP = "DataCleanup"
    """The resource is being deleted and its data dropped, as `spec.deletionPolicy: Delete` says; the message says what
    it waits for, and until when at most. False: that is over, the message says how, and only finalizers of others keep
    the resource. Present only then."""
    DATA_PLANE_REACHABLE = "DataPlaneReachable"
    """A pod of the resource could be asked; while not, the revisions in the status are the last that were seen."""


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Why a condition is as it is: CamelCase and stable, so that alerts and scripts may rely on them."""

    READY = "Ready"
    """Everything asked for is there and answers."""
    PENDING = "Pending"
    """The operator has not seen the resource yet."""
    APPLYING = "Applying"
    """Objects of the resource are being made or changed."""
    PODS_STARTING = "PodsStarting"
    """Pods of this generation are not ready yet."""
    ROLLOUT_PAUSED = "RolloutPaused"
    """Somebody paused the Deployment (`spec.paused`) and its pods are not those of this generation; the message has the
    command that resumes it."""
    POD_FAILING = "PodFailing"
    """A pod cannot start or keeps ending; the message names it, its reason and what to do."""
    PODS_REFUSED = "PodsRefused"
    """The cluster refuses to make the pods (a quota, a policy of the namespace); the message has its words."""
    PODS_SCHEDULED = "PodsScheduled"
    """Every pod has a node."""
    UNSCHEDULABLE = "Unschedulable"
    """The scheduler finds no node with room for a pod; the message has its words, what the pod asks for, and for GPUs
    who holds them and what would free one."""
    NO_MATCHING_NODE = "NoMatchingNode"
    """No node of the cluster could take a pod with the GPUs that `spec.gpu` asks for, free or not; the message says
    which come closest and what each lacks."""
    UNKNOWN_GPU_POOL = "UnknownGPUPool"
    """`spec.gpu.pool` names no pool of the release; the message lists those that there are. Pods stay as they were."""
    RESOURCE_CLAIMS_NOT_SERVED = "ResourceClaimsNotServed"
    """`spec.gpu.allocation` is DRA, and the cluster does not serve `resource.k8s.io/v1`. Pods stay as they were."""
    NODES_NOT_READABLE = "NodesNotReadable"
    """The operator may not read Nodes, so it cannot say whether any could take a pod with such GPUs; the message has
    the scheduler's words, once there is a pod."""
    NOT_IN_ENDPOINTS = "NotInEndpoints"
    """Pods are ready, but the Service does not list them: nobody can find them."""
    SCALED_TO_ZERO = "ScaledToZero"
    """`spec.replicas` is 0: nothing serves."""
    SUSPENDED = "Suspended"
    """`spec.suspend` is true: nothing runs, everything is kept."""
    PODS_STOPPING = "PodsStopping"
    """Pods of a suspended resource are ending."""
    DATA_CLEANUP = "DataCleanup"
    """The resource is being deleted: it goes when its data is dropped, or when the time for that is over."""
    CLEANUP_RUNNING = "CleanupRunning"
    """The Job that drops the data runs; the message names it."""
    CLEANUP_STOPPING = "CleanupStopping"
    """The Job that drops the data is being stopped, as the data is kept now, or as the resource was created again;
    the message names the Job, and says by when it has ended."""
    CLEANUP_REFUSED = "CleanupRefused"
    """The cluster refuses the Job that drops the data, or its Secret; the message has its words."""
    DATA_DROPPED = "DataDropped"
    """The data of the resource is dropped, or there was none."""
    DATA_KEPT = "DataKept"
    """The data stays, as its dropping was called off; the message says how, and whether a part may be gone."""
    DATA_LEFT = "DataLeft"
    """The data could not be dropped; the message says why, and `cortex orphans` lists it."""
    WAITING_FOR_FINALIZERS = "WaitingForFinalizers"
    """The resource is being deleted, and only finalizers of others keep it; the message names them, and says what has
    become of the data and how the resource can go. Nothing of it is repaired meanwhile."""
    SCALING_ACTIVE = "ScalingActive"
    """The autoscaler has its metrics."""
    SCALING_LIMITED = "ScalingLimited"
    """More pods are wanted than `spec.autoscaling.maxReplicas` allows."""
    METRICS_SOURCE_MISSING = "MetricsSourceMissing"
    """What pods are to be scaled by cannot be measured: the cluster's metrics API does not answer (install
    metrics-server), or for metrics of type Prometheus there is no KEDA, or nobody says where Prometheus is. The number
    of pods stays as it is."""
    ROLLED_OUT = "RolledOut"
    """Objects and pods are as the spec says."""
    INVALID_SPEC = "InvalidSpec"
    """The spec cannot be carried out; the message lists every mistake."""
    INTERNAL_ERROR = "InternalError"
    """The operator fails at the resource again and again, by a defect of its own; its log says where."""
    APPLY_REFUSED = "ApplyRefused"
    """The cluster refused an object; the message names it and says why."""
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason, not a secret
    """A Secret that the spec names is not in the namespace; the message says the command that makes it."""
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105 - a reason, not a secret
    """A Secret is there but lacks the key that is read."""
    SECRET_INVALID = "SecretInvalid"  # noqa: S105 - a reason, not a secret
    """The address of the Lake or of the shared state in a Secret cannot be read: pods would end at it; the message
    names Secret and key, never the value."""
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    """A ConfigMap that the spec names is not in the namespace; the message says the command that makes it."""
    CONFIG_MAP_KEY_MISSING = "ConfigMapKeyMissing"
    """A ConfigMap is there but lacks the key that is read."""
    PERSISTENT_VOLUME_CLAIM_NOT_FOUND = "PersistentVolumeClaimNotFound"
    """A PersistentVolumeClaim that `spec.storage` names is not in the namespace."""
    INDEX_NOT_FOUND = "IndexNotFound"
    """A CortexIndex that the workflow names is not in the namespace."""
    INDEX_NOT_ALLOWED = "IndexNotAllowed"
    """There is no CortexIndex of that name in the other namespace that lets the workflow's namespace in
    (`spec.access.allowedNamespaces` there). Whether there is one at all is not told."""
    INDEX_TERMINATING = "IndexTerminating"
    """A CortexIndex that the workflow names is being deleted."""
    DELETED_IN_USE = "DeletedInUse"
    """The CortexIndex is being deleted, although workflows name it; the message says which."""
    INDEX_NOT_READY = "IndexNotReady"
    """A CortexIndex that the workflow names is not Ready."""
    DEPENDENCIES_FOUND = "DependenciesFound"
    """What the resource needs is there."""
    LAKE_UNREACHABLE = "LakeUnreachable"
    """PostgreSQL does not answer; the pods try again by themselves."""
    LAKE_REPLACED = "LakeReplaced"
    """Another Lake answers at the address of the one before (empty, or restored): the pods begin anew with it."""
    STATE_UNREACHABLE = "StateUnreachable"
    """Valkey or Redis does not answer: live progress is missing, everything else goes on."""
    CIRCUIT_OPEN = "CircuitOpen"
    """A pod of the workflow does not ask an index for some seconds, as too many of its last calls failed; the message
    says which, and what the last failure was."""
    MODEL_UNAVAILABLE = "ModelUnavailable"
    """The embedder could not be loaded."""
    MODEL_MISSING = "ModelMissing"
    """The embedding model, or one of its files, is not there; the message says where it was looked for."""
    MODEL_INVALID = "ModelInvalid"
    """The embedding model's files are there but cannot be used; the message says which and why."""
    MODEL_CHANGED = "ModelChanged"
    """The embedding model's files are others than those that the revision was built with, or than
    `spec.embedding.local.sha256` says: their vectors would not fit."""
    REVISION_CURRENT = "RevisionCurrent"
    """The revision that the spec describes answers."""
    REVISION_BUILDING = "RevisionBuilding"
    """The revision that the spec describes is being built; the one before answers meanwhile."""
    REVISION_FAILED = "RevisionFailed"
    """The revision that the spec describes could not be built."""
    REVISION_PENDING = "RevisionPending"
    """No revision answers yet."""
    TEXT_ONLY = "TextOnly"
    """The index answers by text; no document is embedded yet."""
    EMBEDDING = "Embedding"
    """The index answers; some documents wait to be embedded and are found by text until then."""
    COMPLETE = "Complete"
    """The index answers and every document is embedded."""
    INGEST_FAILED = "IngestFailed"
    """The Job that builds the revision failed; it is tried again later, or at once when it is deleted."""
    GRAPH_COMPILES = "GraphCompiles"
    """The graph passed every check."""
    GRAPH_INVALID = "GraphInvalid"
    """The graph has mistakes; the message lists them."""
    WAITING_FOR_TURN = "WaitingForTurn"
    """Resources move to the operator's release one at a time, each when the one before is Ready."""
    WAITING_FOR_APPROVAL = "WaitingForApproval"
    """Resources move to the operator's release when they are told to; the message has the command."""
    UPDATING = "Updating"
    """The pods are being replaced by those of the operator's release; others wait until it is Ready."""
    UPGRADE_HALTED = "UpgradeHalted"
    """A resource did not become Ready with the operator's release: no other one moves. The message names it."""
    POD_ANSWERED = "PodAnswered"
    """A pod answered just now."""
    NO_POD_ANSWERS = "NoPodAnswers"
    """No pod of the resource answers; the message says which were asked."""


ONLY_WHILE_TRUE: Final = frozenset({ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.UPDATE_PENDING})
"""Conditions that are taken away instead of turning False."""


def set_condition(
    conditions: Sequence[Condition],
    type: str,
    status: str,
    reason: str,
    message: str,
    generation: int,
    now: datetime,
) -> list[Condition]:
    """The conditions with one set, in their order; the list given is left alone.

    `lastTransitionTime` (UTC, whole seconds) moves only when `status` changes, and a message over 1,024 characters is
    cut. What is there ONLY_WHILE_TRUE is taken away when `status` is not True. Raises ValueError for a `now`
    without zone.
    """
    if now.tzinfo is None:
        raise ValueError(f"{now} has no time zone: pass datetime.now(UTC)")
    before = next((c for c in conditions if c.type == type), None)
    if type in ONLY_WHILE_TRUE and status != ConditionStatus.TRUE:
        return [c for c in conditions if c.type != type]
    after = Condition(
        type=str(type),
        status=str(status),
        reason=str(reason),
        message=truncate(message),
        last_transition_time=before.last_transition_time if before and before.status == status else timestamp(now),
        observed_generation=generation,
    )
    return [after if c.type == type else c for c in conditions] + ([] if before else [after])


def get_condition(conditions: Sequence[Condition], type: str) -> Condition | None:
    """The condition of a type, if it is there."""
    return next((c for c in conditions if c.type == type), None)


def truncate(message: str, limit: int = MESSAGE_LIMIT) -> str:
    """The message, cut to `limit` characters with an ellipsis at the end."""
    return message if len(message) <= limit else message[: limit - 1] + "…"


def timestamp(now: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes times."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
