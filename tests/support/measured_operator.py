"""`python -m measured_operator`: the operator, which also tells how much its interpreter holds.

A process keeps what it needed once: its RSS is of its busiest moment, mostly the start, and hides what it leaks later.
"""

from __future__ import annotations

import gc
import sys

from cortex_operator import main
from prometheus_client import CollectorRegistry, Gauge

BLOCKS = "python_allocated_blocks"
"""The metric."""


def measure() -> None:
    """Adds the metric to what the operator tells."""
    plain = main._registry

    def registry() -> CollectorRegistry:
        found = plain()
        Gauge(BLOCKS, "Small pieces of memory that are in use.", registry=found).set_function(_blocks)
        return found

    main._registry = registry


def _blocks() -> float:
    gc.collect()  # what waits for the collector is no leak
    return float(sys.getallocatedblocks())


if __name__ == "__main__":
    measure()
    main.main()
