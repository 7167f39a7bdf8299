"""Retrieval measures, as trec_eval computes them (linear gains)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2, sqrt


def ndcg(ranking: Sequence[str], grades: Mapping[str, int], depth: int = 10) -> float:
    """Normalised discounted cumulative gain of the first `depth` documents, 0 to 1."""
    ideal = _dcg(sorted(grades.values(), reverse=True)[:depth])
    return _dcg([grades.get(document, 0) for document in ranking[:depth]]) / ideal if ideal else 0.0


def recall(ranking: Sequence[str], grades: Mapping[str, int], depth: int = 100) -> float:
    """Share of the relevant documents among the first `depth`, 0 to 1."""
    relevant = {document for document, grade in grades.items() if grade > 0}
    return len(relevant.intersection(ranking[:depth])) / len(relevant) if relevant else 0.0


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0 for none."""
    return sum(values) / len(values) if values else 0.0


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean; 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    middle = mean(values)
    return sqrt(sum((value - middle) ** 2 for value in values) / (len(values) - 1) / len(values))


def _dcg(gains: Sequence[int]) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains, 1))
