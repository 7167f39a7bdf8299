"""The engine: turns events into keys, and sees that each key is reconciled. It knows keys, not kinds."""

from cortex_operator.engine.backoff import Backoff, Backoffs
from cortex_operator.engine.engine import Engine, Source
from cortex_operator.engine.hooks import Hook, Outcome, Pass
from cortex_operator.engine.metrics import metrics_hook
from cortex_operator.engine.queue import WorkQueue

__all__ = ["Backoff", "Backoffs", "Engine", "Hook", "Outcome", "Pass", "Source", "WorkQueue", "metrics_hook"]
