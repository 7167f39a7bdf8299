"""What becomes of the data of a resource that is deleted: kept, dropped, and what could not be dropped recorded."""

from cortex_operator.reconcile.deletion.deletion import Deletion

__all__ = ["Deletion"]
