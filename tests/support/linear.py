"""Whether a history of concurrent calls on one register is linearizable (Wing and Gong's search, with memory).

The register has a version, which each write raises by one, and a value. A call whose outcome is unknown may have
happened at any time after it began, or never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple


class Register(NamedTuple):
    """What is there; version 0: nothing."""

    version: int
    value: Any


@dataclass(frozen=True)
class Call:
    """One call: from `began` to `ended` (inf: its outcome is unknown).

    `wrote`: what it was to write, None for a read. `expected`: the version that the write asked for, None for any.
    `saw`: what a read returned, or what the register was after a write (None: it was not told); `refused`: the version
    that a write was refused for."""

    began: float
    ended: float
    wrote: Any = None
    expected: int | None = None
    saw: Register | None = None
    refused: int | None = None

    def after(self, register: Register) -> Register | None:
        """The register after it; None when it cannot have happened then."""
        if self.wrote is None:
            return register if self.saw == register else None
        if self.refused is not None:
            return register if register.version == self.refused != self.expected else None
        if self.expected is not None and self.expected != register.version:
            return None if self.ended < inf else register
        written = Register(register.version + 1, self.wrote)
        return written if self.saw in (None, written) else None


def is_linearizable(calls: Sequence[Call], start: Register) -> bool:
    """Whether some order of the calls, in which none comes before one that had ended when it began, explains it."""
    order = sorted(calls, key=lambda call: call.began)
    needed = sum(1 << n for n, call in enumerate(order) if call.ended < inf)
    stack = [(0, start)]
    tried = set(stack)
    while stack:
        done, register = stack.pop()
        if done & needed == needed:
            return True
        rest = [n for n in range(len(order)) if not done >> n & 1]
        first_end = min(order[n].ended for n in rest)
        for n in rest:
            if order[n].began > first_end:
                break
            following = order[n].after(register)
            state = (done | 1 << n, following)
            if following is not None and state not in tried:
                tried.add(state)  # type: ignore[arg-type]
                stack.append(state)  # type: ignore[arg-type]
    return False
