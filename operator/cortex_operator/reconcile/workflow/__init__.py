"""Reconciling a CortexWorkflow."""

from cortex_operator.reconcile.workflow.observe import observe
from cortex_operator.reconcile.workflow.plan import plan

__all__ = ["observe", "plan"]
