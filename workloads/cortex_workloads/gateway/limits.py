"""Load that the gateway sheds: by class of operation, and no resource may take more than half of a class.

Shields the operations, REST and gRPC, from more calls than the process can carry, and callers of one resource from
those of another that hangs. REST is refused here before a body is read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from cortex_workloads.gateway import replies
from cortex_workloads.runtime.errors import Overloaded
from cortex_workloads.runtime.resilience.policies import GatewayLimits
from cortex_workloads.runtime.resilience.shedding import Gate

Class = Literal["search", "writing", "runs", "state"]
_PATH: Final = re.compile(
    r"/v1/namespaces/(?P<resource>[^/]+/(?:indexes|workflows)/[^/]+)"
    r"/(?P<operation>search|documents|runs|state|history|changes|progress)(?:/|$)"
)
_CLASSES: Final[dict[str, Class]] = {
    "search": "search",
    "documents": "writing",
    "runs": "runs",
    "state": "state",
    "history": "state",
    "changes": "state",
    "progress": "state",
}


class Limits:
    """The places of the gateway, by class."""

    def __init__(self, policy: GatewayLimits) -> None:
        self._gates: dict[Class, Gate] = {
            "search": Gate("Search", "searches", policy.search),
            "writing": Gate("Writing", "writes", policy.writing),
            "runs": Gate("Runs", "runs", policy.runs),
            "state": Gate("State", "reads and followers of states", policy.state),
        }
        self._held: Counter[tuple[Class, str]] = Counter()

    def change(self, policy: GatewayLimits) -> None:
        """From now on by this policy. Calls that are under way go on."""
        self._gates["search"].change(policy.search)
        self._gates["writing"].change(policy.writing)
        self._gates["runs"].change(policy.runs)
        self._gates["state"].change(policy.state)

    @asynccontextmanager
    async def place(self, kind: Class, resource: str, left: float | None = None) -> AsyncIterator[None]:
        """Holds a place of the class for a call to a resource (NAMESPACE/indexes|workflows/NAME), whose caller has
        `left` seconds (None: no deadline). Raises Overloaded."""
        gate, key = self._gates[kind], (kind, resource)
        if self._held[key] >= max(1, gate.bulkhead.policy.concurrent // 2):
            raise gate.refuse("Share", f"calls to {resource} hold half of the places, as many as one resource may")
        # Who waits counts: of those that wait together each would get a place.
        self._held[key] += 1
        try:
            async with gate.place(left):
                yield
        finally:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]


class Shedding:
    """The ASGI application before the operations."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or refuses it with a problem."""
        match = _PATH.match(scope["path"])
        if match is None:
            return await self._app(scope, receive, send)
        try:
            async with self._limits.place(_CLASSES[match["operation"]], match["resource"]):
                await self._app(scope, receive, send)
        except Overloaded as error:
            await replies.problem(error)(scope, receive, send)
