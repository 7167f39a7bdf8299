"""Reconciling: observe the world, plan (pure), apply, write one status.

`Reconciler` is what the engine calls with a key; `sources` says which events concern which key.
"""

from cortex_operator.reconcile.loop import Reconciler
from cortex_operator.reconcile.model import Timing, World
from cortex_operator.reconcile.sources import sources

__all__ = ["Reconciler", "Timing", "World", "sources"]
