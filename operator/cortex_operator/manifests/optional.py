"""Kinds that a cluster may serve or not, of which the operator makes objects where it does."""

from __future__ import annotations

from typing import Final

Kind = tuple[str, str]
"""apiVersion and kind."""

POD_MONITOR: Final = ("monitoring.coreos.com/v1", "PodMonitor")
"""Of the Prometheus Operator."""

SCALED_OBJECT: Final = ("keda.sh/v1alpha1", "ScaledObject")
"""Of KEDA."""

CLAIM_TEMPLATE: Final = ("resource.k8s.io/v1", "ResourceClaimTemplate")
"""Of Dynamic Resource Allocation: Kubernetes 1.34 and newer."""

OPTIONAL: Final = (POD_MONITOR, SCALED_OBJECT, CLAIM_TEMPLATE)
