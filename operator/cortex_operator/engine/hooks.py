"""What the engine tells about itself: a frozen record per pass, given to every hook."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """How a pass ended."""

    DONE = "Done"
    FAILED = "Failed"


@dataclass(frozen=True)
class Pass:
    """One pass over a key. Times in seconds."""

    key: Any
    outcome: Outcome
    waited: float
    """From the moment when the key was due to the start of the pass."""
    took: float
    attempt: int
    """Failures in a row, this one included; 0 when the pass succeeded."""
    again_after: float | None
    """When the key is due again; None: when something happens."""
    error: Exception | None = None


Hook = Callable[[Pass], None]


def log_failures(done: Pass) -> None:
    """The hook that logs what failed; a stack trace only once per series of failures."""
    if done.error is not None:
        log.warning(
            "%s: pass %d failed, again in %.1f s: %s",
            done.key, done.attempt, done.again_after or 0.0, done.error,
            exc_info=done.error if done.attempt == 1 else None,
        )  # fmt: skip
