"""The state of one contender for a Lease (coordination.k8s.io/v1): when it may take it, and until when it may act.

Shields the election from other machines' clocks. A holder counts its term from the moment before it sent the write; a
contender counts from the moment after it saw the record change, and a term is shorter than the record says. So the
holder's term has ended before anybody else may take the Lease, if clocks only run at about the same speed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from cortex_operator.cluster import Conflict, Object, ObjectKey

_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def monotonic() -> float:
    """Seconds since some moment; goes on while the machine is suspended, where the kernel can tell."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True)
class Terms:
    """The times of an election, in seconds; all follow from `duration`."""

    duration: int = 15
    """How long others wait after the last change that they saw."""

    @property
    def term(self) -> float:
        """How long the holder may act after it sent its last renewal that succeeded."""
        return self.duration * 2 / 3

    @property
    def renewal(self) -> float:
        """Between two renewals; twice that is what one may take."""
        return self.duration / 6

    @property
    def look(self) -> float:
        """Between two looks of one who waits, and before a renewal that failed is tried again."""
        return self.duration / 15


class Store(Protocol):
    """Where the record is; see cluster/leases.py."""

    key: ObjectKey

    async def read(self) -> Object | None:
        """The record, None when there is none."""
        ...

    async def write(self, spec: Object, over: Object | None) -> Object:
        """Replaces `over` (None: creates); returns what is stored. Raises Conflict when another one was faster."""
        ...


class LeaseLost(Exception):
    """The Lease is somebody else's, or the term has ended: nothing may be written any more."""


class Lease:
    """One contender, `identity`, which no other has, in this life or another. Its calls do not overlap."""

    def __init__(self, store: Store, identity: str, terms: Terms, clock: Callable[[], float] = monotonic) -> None:
        self.key, self.identity, self.holder = store.key, identity, ""
        self._store, self._terms, self._clock = store, terms, clock
        self._record: Object | None = None
        self._asked = False
        self._until = -math.inf
        # No record at first sight is free at once; one that vanishes later may have a holder that does not know yet.
        self._seen, self._seen_at = "", -math.inf

    @property
    def remaining(self) -> float:
        """Seconds until the term ends; not positive when the Lease is not held. For any thread."""
        return self._until - self._clock()

    def held(self) -> bool:
        """Whether this one may act now. For any thread."""
        return self.remaining > 0

    async def acquire(self) -> bool:
        """Takes the Lease if it is free or has not changed for its duration; whether it is held. Raises what the store
        raises, Conflict when another one was faster."""
        found = await self._store.read()
        if self._is_free(found):
            await self._write(found)
        return self.held()

    async def renew(self) -> None:
        """Begins a new term. Raises LeaseLost, or what the store raises: then the term that runs goes on."""
        if not self.held():
            raise LeaseLost("its term has ended")
        try:
            await self._write(self._record)
        except Conflict:
            # Also when an earlier renewal arrived and its answer did not.
            await self._write(await self._mine())

    async def release(self) -> None:
        """Lets others take the Lease at once, also when it was asked for and the answer is not known; nothing when it
        never was. Raises LeaseLost, or what the store raises; then they wait for its duration."""
        self._until = -math.inf
        if not self._asked:
            return
        try:
            await self._store.write(self._spec(self._record, holder=""), self._record)
        except Conflict:
            mine = await self._mine()
            await self._store.write(self._spec(mine, holder=""), mine)

    async def _write(self, over: Object | None) -> None:
        sent = self._clock()
        # What arrives after its answer was given up is over the same record as what `release` writes: one is refused.
        self._record, self._asked = over, True
        self._record = await self._store.write(self._spec(over, holder=self.identity), over)
        self.holder = self.identity
        self._until = max(self._until, sent + self._terms.term)

    async def _mine(self) -> Object:
        found = await self._store.read()
        self.holder = _holder(found)
        if found is None or self.holder != self.identity:
            self._until = -math.inf
            raise LeaseLost(f"{self.holder} holds it" if self.holder else "somebody took it away")
        return found

    def _is_free(self, found: Object | None) -> bool:
        self.holder = _holder(found)
        version = found["metadata"]["resourceVersion"] if found else ""
        if version != self._seen:
            self._seen, self._seen_at = version, self._clock()
        # A record with this identity is a write of which the answer was lost: nobody has taken it since.
        if found is not None and self.holder in ("", self.identity):
            return True
        return self._clock() - self._seen_at >= self._duration(found)

    def _duration(self, found: Object | None) -> float:
        told = _spec_of(found).get("leaseDurationSeconds")
        return max(told, 1) if isinstance(told, int) else self._terms.duration

    def _spec(self, over: Object | None, *, holder: str) -> Object:
        before, now = _spec_of(over), _microtime()
        changes = holder not in ("", _holder(over))
        transitions = before.get("leaseTransitions") or 0
        return {
            **before,
            "holderIdentity": holder,
            "leaseDurationSeconds": self._terms.duration,
            "acquireTime": now if changes else before.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": transitions + (changes and over is not None),
        }


def _spec_of(record: Object | None) -> dict[str, Any]:
    return (record or {}).get("spec") or {}


def _holder(record: Object | None) -> str:
    return _spec_of(record).get("holderIdentity") or ""


def _microtime() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
