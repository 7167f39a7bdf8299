"""Fallbacks: the answers that may stand for the real one where the caller accepts that, and how often they do."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from prometheus_client import Counter

from cortex_workloads.runtime.telemetry import REGISTRY

_USED: Final = Counter(
    "cortex_fallbacks_total", "Answers that were not the real ones", ("fallback", "reason"), registry=REGISTRY
)


class Fallback(StrEnum):
    """What a caller may accept."""

    TEXT_ONLY = "TextOnly"
    """What BM25 alone finds, when the query cannot be embedded."""
    STALE_ANSWER = "StaleAnswer"
    """What the same search was answered last, when the index cannot be asked."""


def used(fallback: Fallback, reason: str) -> None:
    """Counts an answer that is not the real one, by the reason (CamelCase, of few values) that there is none."""
    _USED.labels(fallback, reason).inc()
