"""The metrics of an upgrade for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from cortex_operator.reconcile.fleet import Fleet


def watch_fleet(registry: CollectorRegistry, fleet: Fleet) -> None:
    """Gauges of the resources that wait for a move to the operator's release, and of a halt."""
    behind = Gauge("cortex_operator_resources_behind", "Resources of an earlier release.", registry=registry)
    halted = Gauge("cortex_operator_upgrade_halted", "1 while all wait for one that failed.", registry=registry)
    behind.set_function(lambda: fleet.behind)
    halted.set_function(lambda: float(bool(fleet.halted_by)))
