"""`python -m scaled_operator`: the operator with timers so short that a test sees each of them pass.

What is shortened: how long a status may lag behind in counts and words, looks at everything, the age of watches, the
tries to open one.
Only values are replaced, and a metric is added; everything else is the operator's own entry point.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Final

from cortex_operator import handlers, main
from cortex_operator.engine import Pace
from cortex_operator.reconcile import Timing
from measured_operator import measure

DETAILS: Final = 0.5
BACKOFFS: Final = (0.1, 0.3, 0.5, 1.0, 1.0)
"""Between the tries of a watch."""
RESYNC: Final = 20.0
SETTLE: Final = 0.5
WATCH: Final = float(os.environ.get("SCALED_WATCH_SECONDS", "4"))
"""After which a watch is opened anew; 70 in production. All in seconds."""


def run() -> None:
    """Runs the operator."""
    measure()
    handlers._WATCH_SECONDS = WATCH  # type: ignore[misc]
    handlers._BACKOFFS = BACKOFFS  # type: ignore[misc,assignment]
    main.Timing = partial(Timing, details=DETAILS)  # type: ignore[attr-defined,misc,assignment]
    main.Pace = partial(Pace, resync=RESYNC, settle=SETTLE)  # type: ignore[attr-defined,misc,assignment]
    main.main()


if __name__ == "__main__":
    run()
