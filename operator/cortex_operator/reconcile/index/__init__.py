"""Reconciling a CortexIndex."""

from cortex_operator.reconcile.index.leaving import Used, leaving
from cortex_operator.reconcile.index.observe import observe
from cortex_operator.reconcile.index.plan import plan

__all__ = ["Used", "leaving", "observe", "plan"]
