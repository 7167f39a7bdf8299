"""What the engine tells about itself: a frozen record per pass, given to every hook."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cortex_operator.cluster import Conflict, Forbidden, Invalid, NamespaceTerminating, Unavailable

PLAIN: Final = (Conflict, Forbidden, Invalid, NamespaceTerminating, Unavailable)
"""Errors that say themselves what happened."""
_QUIET: Final = (Conflict, NamespaceTerminating)
"""Errors that pass by themselves."""
_OF_ALL: Final = (Forbidden, Unavailable)
"""Errors that are about no resource."""
_TELL_SECONDS: Final = 60.0

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


class FailureLog:
    """The hook that logs what failed, and at DEBUG every pass; a stack trace only for what nobody expected, once per
    series of failures. What fails passes over whatever resource, as a right that lacks, is one line a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[tuple[type[Exception], str], _Told] = {}

    def __call__(self, done: Pass) -> None:
        """Logs one pass."""
        if done.error is None:
            due = "when something happens" if done.again_after is None else f"in {done.again_after:.1f} s"
            log.debug("%s: passed in %.3f s after %.3f s in the queue, again %s", done.key, done.took, done.waited, due)
        elif isinstance(done.error, _OF_ALL):
            self._tell(done, (type(done.error), getattr(done.error, "about", "")))
        else:
            _log(done)

    def _tell(self, done: Pass, trouble: tuple[type[Exception], str]) -> None:
        told, now = self._told.get(trouble), self._clock()
        if told is not None and now - told.at < _TELL_SECONDS:
            told.more += 1
            return
        more = told.more if told is not None else 0
        self._told[trouble] = _Told(now)
        _log(done, f" ({more} more passes failed so since it was told last)" if more else "")


@dataclass
class _Told:
    at: float
    more: int = 0


def _log(done: Pass, more: str = "") -> None:
    unexpected = done.attempt == 1 and not isinstance(done.error, PLAIN)
    log.log(
        logging.INFO if isinstance(done.error, _QUIET) else logging.WARNING,
        "%s: pass %d failed, again in %.1f s: %s%s",
        done.key, done.attempt, done.again_after or 0.0, done.error, more,
        exc_info=done.error if unexpected else None,
    )  # fmt: skip
