"""What is known of the watches: whether each is open, and when the Lease's renewals last came back through one.

Shields health from kopf, which says nothing of a watch that is tried again or that is silent. An aiohttp session tells
of each answer; the leader's own Lease is the canary for all between its write and the operator's event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final

import aiohttp

REFUSALS: Final = 3
"""So often in a row a request is refused before that counts: an API server that starts may do so for a moment."""
_FORBIDDEN: Final = 403


@dataclass
class _Watch:
    """One collection's. `answer`: the stream that was granted last; `refused` times in a row it was not."""

    answer: aiohttp.ClientResponse | None = None
    refused: int = 0
    lost_at: float | None = None

    def away(self, now: float) -> float:
        """For how long it has not been open, as far as anybody asked; seconds."""
        if self.answer is None or not self.answer.closed:
            self.lost_at = None
        elif self.lost_at is None:
            self.lost_at = now
        return 0.0 if self.lost_at is None else now - self.lost_at


class Watches:
    """`expected` of them, of which none may be away, nor the echo of the Lease, for `silence` seconds: then the
    operator is not ready, and after twice that it hangs. Written by kopf's thread, read by any."""

    def __init__(self, expected: int, silence: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._expected, self._silence, self._clock = expected, silence, clock
        self.begin()

    def begin(self) -> None:
        """All begin anew."""
        self._watches: dict[str, _Watch] = {}
        self._echoed = self._clock()

    def hear(self, renewed: str) -> None:
        """A watch showed the Lease as this process wrote it at `renewed` (a microtime of this machine's clock)."""
        late = (datetime.now(UTC) - datetime.fromisoformat(renewed)).total_seconds()
        self._echoed = max(self._echoed, self._clock() - max(0.0, late))

    @property
    def echo_age(self) -> float:
        """How old the newest renewal is that came back, in seconds."""
        return self._clock() - self._echoed

    def unready(self) -> str:
        """Why the operator does not see everything, as a sentence; empty when it does."""
        missing = self._expected - sum(watch.answer is not None for watch in self._watches.values())
        if missing > 0:
            return f"waiting for {missing} of {self._expected} watches"
        return self._trouble(self._silence)

    def stuck(self) -> str:
        """Why only a new process helps, as a sentence; empty when none is needed."""
        return self._trouble(2 * self._silence)

    def trace(self, on_refused: Callable[[str], None]) -> aiohttp.TraceConfig:
        """To be given to the session that watches. `on_refused` is told the path of what is not allowed (403)."""

        async def on_end(_: Any, __: SimpleNamespace, params: aiohttp.TraceRequestEndParams) -> None:
            # One collection may be watched twice, by other labels.
            selector = params.url.query.get("labelSelector", "")
            watch = self._watches.setdefault(f"{params.url.path} {selector}".strip(), _Watch())
            watch.refused = watch.refused + 1 if params.response.status == _FORBIDDEN else 0
            if watch.refused == REFUSALS:
                on_refused(params.url.path)
            if params.response.status < 300 and params.url.query.get("watch") == "true":
                watch.answer = params.response

        config = aiohttp.TraceConfig()
        config.on_request_end.append(on_end)
        return config

    def _trouble(self, limit: float) -> str:
        now = self._clock()
        for name, watch in list(self._watches.items()):
            if watch.away(now) > limit:
                return f"the watch {name} has been away for {watch.away(now):.0f} s"
        if self.echo_age > limit:
            return f"stale: the watches have shown no renewal of the Lease for {self.echo_age:.0f} s"
        return ""
