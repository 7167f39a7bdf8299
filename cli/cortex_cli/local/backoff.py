"""How long to wait before something that ended is started again."""

from __future__ import annotations

import random
import time
from typing import Final

FIRST_SECONDS: Final = 0.2
MOST_SECONDS: Final = 10.0
HEALTHY_SECONDS: Final = 30.0


class Backoff:
    """Doubles from FIRST_SECONDS to MOST_SECONDS, jittered; begins anew after something ran for HEALTHY_SECONDS."""

    def __init__(self) -> None:
        self._failures = 0

    def after(self, started: float) -> float:
        """Seconds to wait now that what was started at `started` (time.monotonic) has ended."""
        if time.monotonic() - started >= HEALTHY_SECONDS:
            self._failures = 0
        delay = min(MOST_SECONDS, FIRST_SECONDS * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        return delay * random.uniform(0.75, 1.0)  # noqa: S311 - jitter, no secret
