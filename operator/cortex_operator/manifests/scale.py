"""How many pods a resource has, as its objects say it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """How many pods there are to be, and who says so."""

    running: int
    """Pods that are to run now."""
    told: bool = True
    """Whether the Deployment carries the number; else an autoscaler writes it there."""
    before: int = 0
    """Of a suspended resource: how many pods it had; 0: none, or nobody knows."""
    waits: bool = False
    """Whether the autoscaler of before is not gone yet: until then nobody else says the number."""
