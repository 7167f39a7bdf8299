"""What a caller accepts when the real answer of a search cannot be had: when it is time for it, and why.

Shields the pipelines from what callers accept: they say that a query cannot be embedded, and nothing else.
"""

from __future__ import annotations

import logging
from typing import Final

from cortex_workloads.runtime.errors import CortexError
from cortex_workloads.runtime.fallbacks import Fallback, used

_log: Final = logging.getLogger("cortex.search")
_ASKING_SHARE: Final = 0.8
_SHARE: Final = 0.5
"""Of the time that a caller has: what embedding may take, as the text is to be searched in the rest."""


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


def asking_seconds(left: float | None) -> float | None:
    """What the real answer may take when the last one is accepted, of the seconds that are left for the call."""
    return None if left is None else left * _ASKING_SHARE


def text_only(why: NotEmbedded) -> None:
    """Counts an answer by text alone; a defect behind it is logged."""
    used(Fallback.TEXT_ONLY, why.reason)
    if why.reason == "EmbeddingFailed":
        _log.error("a query cannot be embedded: %s", why, exc_info=why.cause)
