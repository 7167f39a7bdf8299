"""Every reason that narrows the one of an error's type: what it means and what to do, for the reference page.

Beside these, an Unavailable that is about a resource has the reason of its condition Ready (cortex_kinds.conditions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cortex_workloads.runtime.errors import (
    CortexError,
    DeadlineExceeded,
    FailedPrecondition,
    Forbidden,
    InvalidInput,
    Malformed,
    NotFound,
    RunInterrupted,
    RunRefused,
    RunUnserved,
    StateSyncFailed,
    Unavailable,
)


@dataclass(frozen=True)
class Reason:
    """One reason: the types of error that have it, what it means, what to do."""

    types: tuple[type[CortexError], ...]
    meaning: str
    remedy: str


_MODEL: Final = (FailedPrecondition, InvalidInput)

REASONS: Final[dict[str, Reason]] = {
    "AggregateNotFound": Reason(
        (NotFound,),
        "The resource has no such run, thread, revision or replica.",
        "Check the name: they belong to one resource alone.",
    ),
    "CircuitOpen": Reason(
        (Unavailable,),
        "The resource failed so often that it is not asked for some seconds.",
        "Try again when `retry_after` has passed; its conditions and the gateway's /healthz say how it is.",
    ),
    "CrossSite": Reason(
        (Forbidden,),
        "A page of another site asks through the user's browser.",
        "Ask from a program, or from a page of the gateway.",
    ),
    "Draining": Reason(
        (Unavailable,),
        "The pod is ending.",
        "Try again; a run goes on in another pod: ask with its id and the last event id.",
    ),
    "Dropped": Reason((Unavailable,), "The resource's data was dropped from the Lake at this moment.", "Try again."),
    "ExpressionFailed": Reason(
        (RunRefused,),
        "An expression of the workflow cannot be evaluated with this state.",
        "Correct the expression or the input.",
    ),
    "GraphInvalid": Reason(
        (FailedPrecondition,),
        "The revision's graph does not compile.",
        "Apply a manifest that `cortex validate` accepts.",
    ),
    "HostNotAllowed": Reason(
        (Forbidden,), "The gateway answers for loopback host names only.", "Ask for localhost or 127.0.0.1."
    ),
    "IndexNotFound": Reason(
        (NotFound, Unavailable),
        "There is no such CortexIndex.",
        "Apply it, or take one of the names that the message offers.",
    ),
    "IndexUnknown": Reason(
        (FailedPrecondition,),
        "The workflow's pods have no address of the index.",
        "List it in spec.indexes; the condition IndexReady says when it lets them in.",
    ),
    "Interrupted": Reason((RunInterrupted,), "The run was lost with its pods.", "Start it again with a new run id."),
    "LakeBusy": Reason(
        (Unavailable,), "All connections of the pod to the Lake are in use.", "Try again, or add replicas."
    ),
    "LakeMigrationEdited": Reason(
        (FailedPrecondition,),
        "A migration was applied with another text than this release has.",
        "Run the release that the Lake was made with.",
    ),
    "LakeFull": Reason(
        (Unavailable,),
        "PostgreSQL has no disk space left to write to; what is there can be read.",
        "Give its volume more space, or free some.",
    ),
    "LakeMigrationFailed": Reason(
        (FailedPrecondition,),
        "PostgreSQL refuses a migration.",
        "Give it PostgreSQL 18 with pgvector 0.8 and a user that owns the database.",
    ),
    "LakeReplaced": Reason(
        (Unavailable,),
        "The Lake is another one than the pod began with; the pod begins anew.",
        "Restore the former Lake, or write its documents again.",
    ),
    "LakeSchemaTooNew": Reason(
        (FailedPrecondition,), "The Lake was migrated by a newer release.", "Run that release, or a newer one."
    ),
    "LakeUnreachable": Reason(
        (Unavailable,), "PostgreSQL does not answer.", "See that it runs and that the Secret's `dsn` is right."
    ),
    "LinesRefused": Reason(
        (InvalidInput,),
        "Some lines of an NDJSON upload are not valid; the others stand.",
        "Correct those lines and send them again.",
    ),
    "LoadEnded": Reason((Unavailable,), "What several calls waited for was ended by the pod's end.", "Try again."),
    "ModelBroken": Reason(
        (FailedPrecondition,), "The embedding model cannot be loaded.", "See the pod's memory and image."
    ),
    "ModelChanged": Reason(
        _MODEL,
        "The model's files are not those that the revision began with.",
        "Put them back, or give the new ones a directory of their own.",
    ),
    "ModelInvalid": Reason(
        _MODEL,
        "The model's files cannot be read, or do not do what they should.",
        "See [your own embedding model](../indexes.md).",
    ),
    "ModelLoading": Reason((Unavailable,), "The embedding model is being loaded.", "Try again in some seconds."),
    "ModelMissing": Reason(
        _MODEL, "The model's files are not there.", "Put them into the volume of spec.storage.models."
    ),
    "NamespaceForbidden": Reason(
        (Unavailable,),
        "The gateway's ServiceAccount may not look into this namespace, so nobody knows what is there.",
        "Grant it what the chart's Role for the namespace does; /healthz has the API server's words.",
    ),
    "NoRevision": Reason(
        (Unavailable, FailedPrecondition),
        "The resource has no revision that could answer yet.",
        "Wait until its condition says that it has, or see what it says.",
    ),
    "NoSuchPath": Reason((NotFound,), "The gateway has nothing at this path.", "See /docs for what there is."),
    "NodeFailed": Reason((RunRefused,), "A node of the run failed.", "The message names the node and what it met."),
    "NodeUnavailable": Reason(
        (RunUnserved,),
        "What a node of the run needs did not answer, or not in time, or was at its limit.",
        "The message names the node and what it met; when that answers, start the run again with a new run id.",
    ),
    "NotJSON": Reason((Malformed,), "The body is not JSON.", "The message names line and column."),
    "NotReady": Reason(
        (Unavailable,),
        "No pod of the resource answers.",
        "Try again; `kubectl describe` (on one machine `cortex status`) says why.",
    ),
    "NotUTF8": Reason((Malformed,), "The body is not UTF-8.", "Encode it as UTF-8."),
    "PositionUnknown": Reason(
        (StateSyncFailed,),
        "The feed of the resource has not reached the position that is asked for, or has another event there than was"
        " told: the Lake was restored, or the resource was made anew.",
        "Read the states again, and follow from position 0 or from now on.",
    ),
    "ResourceUnknown": Reason(
        (NotFound,), "The Lake knows nothing of the resource yet.", "Wait until its first revision was ordered."
    ),
    "RevisionChanging": Reason((Unavailable,), "The index changed its revision during the search.", "Try again."),
    "RevisionFailed": Reason((FailedPrecondition,), "The revision that is asked for failed.", "Leave `revision` out."),
    "RevisionGone": Reason(
        (FailedPrecondition,),
        "The revision that the thread began with is no longer kept.",
        "Begin a new thread, or raise spec.revisions.retain.",
    ),
    "RevisionNotFound": Reason(
        (NotFound,),
        "The index has no such revision.",
        "Take one of those that the message names, or leave `revision` out.",
    ),
    "Starting": Reason((Unavailable,), "The pod prepares the Lake.", "Try again."),
    "StateForbidden": Reason(
        (FailedPrecondition,),
        "The user of the shared state may not do what is needed.",
        "Give it the rights that docs/state.md lists.",
    ),
    "StateTooLarge": Reason(
        (RunRefused,),
        "The run's state grew over its limit.",
        "Keep less in the state, or raise spec.limits.stateBytes.",
    ),
    "StateUnreachable": Reason(
        (Unavailable,),
        "The shared state does not answer: there is no live progress.",
        "Ask for the result, or try again; runs and ingestion go on.",
    ),
    "StateUnsupported": Reason(
        (FailedPrecondition,),
        "The shared state is a server that the functions do not work on.",
        "Use Valkey 7.2 or newer, or Redis 7.0 or newer.",
    ),
    "StepsExceeded": Reason(
        (RunRefused,), "The run took more steps than it may.", "End the loop, or raise spec.limits.steps."
    ),
    "StreamBroken": Reason(
        (Unavailable,),
        "The stream of a run ended before the run did, or a watch of changes ended.",
        "Ask again with the run id and the last event id; a watch with the last position.",
    ),
    "StreamLagging": Reason(
        (Unavailable,),
        "The events of a run were not read fast enough.",
        "Ask again with the run id and the last event id.",
    ),
    "ThreadBusy": Reason(
        (FailedPrecondition,), "Another run of the thread is going on.", "Wait for it: a thread has one run at a time."
    ),
    "TooDeep": Reason(
        (InvalidInput,), "The body is nested too deeply.", "Send fewer levels; the message names the limit."
    ),
    "TooLate": Reason(
        (DeadlineExceeded,), "The time of a drop is over: the name may be in use again.", "See `cortex orphans`."
    ),
    "VersionConflict": Reason(
        (StateSyncFailed,), "The state was changed since it was read.", "Read it again and decide anew."
    ),
    "WorkflowNotFound": Reason(
        (NotFound, Unavailable),
        "There is no such CortexWorkflow.",
        "Apply it, or take one of the names that the message offers.",
    ),
    "WrongResource": Reason(
        (FailedPrecondition,), "The pod that was asked serves another resource.", "Ask the Service of the resource."
    ),
}
