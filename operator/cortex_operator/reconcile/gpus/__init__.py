"""GPUs of a cluster: who holds them, what waits, and why a pod has no node. Pure; reads Nodes and Pods."""

from cortex_operator.reconcile.gpus.holders import Holder, Room
from cortex_operator.reconcile.gpus.ledger import POOL_LABELS, Ledger, Supply, Waiting, ledger
from cortex_operator.reconcile.gpus.shortage import Shortage, shortage

__all__ = ["POOL_LABELS", "Holder", "Ledger", "Room", "Shortage", "Supply", "Waiting", "ledger", "shortage"]
