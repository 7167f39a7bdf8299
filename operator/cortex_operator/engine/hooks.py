"""What the engine tells about itself: a frozen record per pass, given to every hook."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cortex_operator.cluster import Conflict, Forbidden, Invalid, NamespaceTerminating, Unavailable

PLAIN: Final = (Conflict, Forbidden, Invalid, NamespaceTerminating, Unavailable)
"""Errors that say themselves what happened."""
_QUIET: Final = (Conflict, NamespaceTerminating)
"""Errors that pass by themselves."""

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
    """The hook that logs what failed, and at DEBUG every pass; a stack trace only for what nobody expected, once per
    series of failures."""
    if done.error is None:
        due = "when something happens" if done.again_after is None else f"in {done.again_after:.1f} s"
        log.debug("%s: passed in %.3f s after %.3f s in the queue, again %s", done.key, done.took, done.waited, due)
        return
    unexpected = done.attempt == 1 and not isinstance(done.error, PLAIN)
    log.log(
        logging.INFO if isinstance(done.error, _QUIET) else logging.WARNING,
        "%s: pass %d failed, again in %.1f s: %s",
        done.key, done.attempt, done.again_after or 0.0, done.error,
        exc_info=done.error if unexpected else None,
    )  # fmt: skip
