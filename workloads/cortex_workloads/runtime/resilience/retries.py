"""Tries beyond the first one, counted.

What gRPC tries again by its policy no caller sees: it is counted where the try arrives, by the metadata that says how
many came before. A try that reaches no pod is counted by nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, Final

import grpc
from prometheus_client import Counter

from cortex_workloads.runtime.telemetry import REGISTRY

_ARRIVED: Final = Counter(
    "cortex_grpc_server_retries_total",
    "Calls that came again by gRPC's retry policy",
    ("service", "method"),
    registry=REGISTRY,
)
_MADE: Final = Counter(
    "cortex_retries_total", "What was tried again by ourselves, not by gRPC", ("what",), registry=REGISTRY
)
_BEFORE: Final = "grpc-previous-rpc-attempts"


class What(StrEnum):
    """What we try again."""

    MOVED = "Moved"
    """A call whose pods are gone, where the pods are now."""
    STREAM = "Stream"
    """The stream of a run, or of changes of a state, from its last event on."""
    NODE = "Node"
    """A node of a run, as its `retry` says."""
    LAKE = "Lake"
    """The work of a Job, after an outage of the Lake."""


def again(what: What) -> None:
    """Counts one more try."""
    _MADE.labels(what).inc()


class RetryInterceptor(grpc.aio.ServerInterceptor):
    """For `grpc.aio.server(interceptors=[...])`, before those that refuse."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Counts a call that came before; a method that is unknown is a label of the caller's, and is not counted."""
        handler = await continuation(handler_call_details)
        if handler is not None and any(key == _BEFORE for key, _ in handler_call_details.invocation_metadata or ()):
            service, _, method = handler_call_details.method[1:].partition("/")
            _ARRIVED.labels(service, method).inc()
        return handler
