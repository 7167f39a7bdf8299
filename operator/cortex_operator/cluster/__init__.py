"""The port `Cluster`: a place that keeps Kubernetes objects, with server-side apply.

Shields the engine and the reconcilers from where the objects are: an API server, or this process.
"""

from cortex_operator.cluster.cache import Cache, Selection
from cortex_operator.cluster.events import Recorder, log_notices
from cortex_operator.cluster.memory import MemoryCluster
from cortex_operator.cluster.port import (
    EVERYWHERE,
    FIELD_MANAGER,
    ApplyResult,
    Cluster,
    Conflict,
    Event,
    EventType,
    Forbidden,
    Invalid,
    Lingering,
    NamespaceTerminating,
    NotFound,
    Object,
    ObjectKey,
    Taken,
    Unauthorized,
    Unavailable,
)

__all__ = [
    "EVERYWHERE",
    "FIELD_MANAGER",
    "ApplyResult",
    "Cache",
    "Cluster",
    "Conflict",
    "Event",
    "EventType",
    "Forbidden",
    "Invalid",
    "Lingering",
    "MemoryCluster",
    "NamespaceTerminating",
    "NotFound",
    "Object",
    "ObjectKey",
    "Recorder",
    "Selection",
    "Taken",
    "Unauthorized",
    "Unavailable",
    "log_notices",
]
