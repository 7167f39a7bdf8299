"""What every node is made of, and what it may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from cortex_kinds.nodes import Cache, Node
from numpy.typing import NDArray

State = Mapping[str, Any]
"""The state as expressions see it: key -> JSON value."""


class Encoder(Protocol):
    """Texts -> float32 [n, 384], each of length 1."""

    async def aencode(self, texts: list[str]) -> NDArray[np.float32]:
        """Off the event loop."""
        ...


class Searcher(Protocol):
    """Asks the search service of an index."""

    async def search(
        self, index: str, query: str, *, top_k: int | None, mode: str | None, timeout: float | None
    ) -> list[dict[str, Any]]:
        """`[{id, title, content, score, meta, index}]`, best first. `timeout` in seconds. Raises CortexError."""
        ...

    def target(self, index: str) -> str:
        """Where the index is asked. Raises FailedPrecondition (`IndexUnknown`) when this pod may not ask it."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a node did: the keys that it writes, and for a Route where to go on and why."""

    update: dict[str, Any] = field(default_factory=dict)
    to: str | None = None
    message: str = ""


Work = Callable[[State, float | None], Awaitable[Outcome]]
"""A node's work on the state; the float is how many seconds it may take at most (None: no limit).

Raises NodeProblem, or CortexError from what it called.
"""


@dataclass(frozen=True)
class Parted:
    """A node's work, in two parts: what it reads of the state and of this pod, as JSON, decides what it does."""

    reads: Callable[[State], dict[str, Any]]
    does: Callable[[dict[str, Any], float | None], Awaitable[Outcome]]

    async def __call__(self, state: State, seconds: float | None) -> Outcome:
        """Both."""
        return await self.does(self.reads(state), seconds)


class Results(Protocol):
    """Keeps what nodes wrote."""

    def around(self, revision: str, node: Node, cache: Cache, parted: Parted) -> Work:
        """The node's work, which is done where no result is kept of what it reads."""
        ...


@dataclass(frozen=True)
class Tools:
    """What nodes use of the service."""

    searcher: Searcher
    encoder: Callable[[], Awaitable[Encoder]]
    results: Results
