"""Reconciling: observe the world, plan (pure), apply, write one status.

`Reconciler` is what the engine calls with a key; `sources` says which events concern which key.
"""

from cortex_operator.reconcile.loop import Reconciler
from cortex_operator.reconcile.model import Timing, World
from cortex_operator.reconcile.sources import sources
from cortex_operator.reconcile.uses import Uses

__all__ = ["Reconciler", "Timing", "Uses", "World", "sources"]
