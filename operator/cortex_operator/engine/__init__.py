"""The engine: turns events into keys, and sees that each key is reconciled. It knows keys, not kinds."""

from cortex_operator.engine.backoff import Backoff, Backoffs
from cortex_operator.engine.election import Election
from cortex_operator.engine.engine import Engine, Feed, Pace, Source
from cortex_operator.engine.feed import watch_feed
from cortex_operator.engine.hooks import FailureLog, Hook, Outcome, Pass
from cortex_operator.engine.lease import Lease, Terms
from cortex_operator.engine.metrics import metrics_hook, watch_queue
from cortex_operator.engine.queue import QueueClosed, WorkQueue
from cortex_operator.engine.turns import Calls

__all__ = [
    "Backoff",
    "Backoffs",
    "Calls",
    "Election",
    "Engine",
    "FailureLog",
    "Feed",
    "Hook",
    "Lease",
    "Outcome",
    "Pace",
    "Pass",
    "QueueClosed",
    "Source",
    "Terms",
    "WorkQueue",
    "metrics_hook",
    "watch_feed",
    "watch_queue",
]
