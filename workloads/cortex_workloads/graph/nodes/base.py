"""What every node is made of, and what it may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
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


@dataclass(frozen=True)
class Tools:
    """What nodes use of the service."""

    searcher: Searcher
    encoder: Callable[[], Awaitable[Encoder]]


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
