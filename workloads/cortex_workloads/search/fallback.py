"""What a caller accepts when the real answer of a search cannot be had: which it is, why, and how often.

Shields the pipelines from what callers accept: they say that a query cannot be embedded, and nothing else.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Final

from prometheus_client import Counter

from cortex_workloads.runtime.errors import CortexError
from cortex_workloads.runtime.telemetry import REGISTRY

_log: Final = logging.getLogger("cortex.search")
_USED: Final = Counter(
    "cortex_fallbacks_total", "Answers that were not the real ones", ("fallback", "reason"), registry=REGISTRY
)
_SHARE: Final = 0.5
"""Of the time that a caller has: what embedding may take, as the text is to be searched in the rest."""


class Fallback(StrEnum):
    """The answers that may stand for the real one."""

    TEXT_ONLY = "TextOnly"


class NotEmbedded(Exception):
    """The query has no vector; `cause` says why: a CortexError, TimeoutError (it took longer than it may), or what the
    network raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause

    @property
    def reason(self) -> str:
        """CamelCase, of few values: ModelLoading, ModelChanged, TooSlow, EmbeddingFailed, ..."""
        match self.cause:
            case CortexError():
                return self.cause.reason
            case TimeoutError():
                return "TooSlow"
        return "EmbeddingFailed"


def embedding_seconds(left: float | None) -> float | None:
    """What embedding may take when text alone is accepted, of the seconds that are left for the call."""
    return None if left is None else left * _SHARE


def used(fallback: Fallback, why: NotEmbedded) -> None:
    """Counts an answer that is not the real one; a defect behind it is logged."""
    _USED.labels(fallback, why.reason).inc()
    if why.reason == "EmbeddingFailed":
        _log.error("a query cannot be embedded: %s", why, exc_info=why.cause)
