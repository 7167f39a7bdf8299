"""What is asked for most, counted in bounded memory: recent questions weigh more, rare ones are forgotten."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

_OFTEN: Final = 1.5
"""Twice, less what has faded since."""
_GONE: Final = 0.25


class Popular:
    """Counts of the keys that are asked for most: about `most` of them, never twice as many, of `key_bytes` each at
    most (longer ones are not counted). What is asked for less often than so many others may be missing."""

    def __init__(self, most: int, key_bytes: int) -> None:
        self._most = most
        self._key_bytes = key_bytes
        self._counts: dict[bytes, float] = {}
        self._untold: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, key: bytes) -> None:
        """It was asked for."""
        if not self._most or len(key) > self._key_bytes:
            return
        self._counts[key] = self._counts.get(key, 0.0) + 1.0
        self._untold[key] = self._untold.get(key, 0) + 1
        if len(self._counts) >= 2 * self._most:
            # Not one for each that comes: who is new has the time of `most` others to be asked for again.
            self._keep(heapq.nlargest(self._most, self._counts, self._counts.__getitem__))

    def fade(self, share: float) -> None:
        """Only `share` of each count is left, and nothing of what was asked for rarely and long ago."""
        self._counts = {key: count * share for key, count in self._counts.items()}
        self._keep([key for key, count in self._counts.items() if count >= _GONE])

    def take(self) -> dict[bytes, int]:
        """How often each was asked for since it was taken last: of those that are asked for more than once."""
        taken = {key: count for key, count in self._untold.items() if self._counts[key] >= _OFTEN}
        for key in taken:
            del self._untold[key]
        return taken

    def top(self, most: int) -> list[bytes]:
        """The keys that are asked for most often and more than once, the first one most."""
        often = [key for key, count in self._counts.items() if count >= _OFTEN]
        return heapq.nlargest(most, often, self._counts.__getitem__)

    def _keep(self, keys: Iterable[bytes]) -> None:
        self._counts = {key: self._counts[key] for key in keys}
        self._untold = {key: count for key, count in self._untold.items() if key in self._counts}
