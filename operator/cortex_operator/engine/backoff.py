"""How long to wait before a key is tried again, by the class of the error."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from cortex_operator.cluster import Conflict, Forbidden, Invalid, NamespaceTerminating, Unavailable


@dataclass(frozen=True)
class Backoff:
    """Exponential: `first`, doubled each time, `most` at the most; seconds. Jitter takes away up to a half."""

    first: float
    most: float

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Before the next try, after `attempt` (from 1) failures in a row."""
        whole = min(self.most, self.first * 2.0 ** min(attempt - 1, 30))
        return whole * rng.uniform(0.5, 1.0)


@dataclass(frozen=True)
class Backoffs:
    """The first class that fits counts; an error's own `retry_after` (seconds) is never undercut."""

    classes: tuple[tuple[type[Exception], Backoff], ...]
    otherwise: Backoff

    def delay(self, error: Exception, attempt: int, rng: random.Random) -> float:
        """Before the next try, after `attempt` (from 1) failures in a row."""
        backoff = next((b for kind, b in self.classes if isinstance(error, kind)), self.otherwise)
        return max(backoff.delay(attempt, rng), getattr(error, "retry_after", None) or 0.0)


DEFAULT: Final = Backoffs(
    classes=(
        (Conflict, Backoff(0.05, 5.0)),
        (Unavailable, Backoff(0.5, 30.0)),
        # What is refused is refused again until somebody changes it, which is an event of its own.
        (Invalid, Backoff(30.0, 600.0)),
        (NamespaceTerminating, Backoff(30.0, 600.0)),
        (Forbidden, Backoff(5.0, 300.0)),
        (TimeoutError, Backoff(1.0, 60.0)),
    ),
    otherwise=Backoff(0.5, 120.0),
)
