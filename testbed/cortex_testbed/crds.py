"""The custom resource definitions of crds/ on a cluster."""

from __future__ import annotations

from cortex_testbed.kubectl import Kubectl
from cortex_testbed.paths import CRDS


def install(kubectl: Kubectl) -> None:
    """Applies them; returns when the API server serves them. Raises BedError with what the API server refuses."""
    files = [f"--filename={file}" for file in sorted(CRDS.glob("*.yaml"))]
    kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=cortex-test-bed", *files)
    kubectl("wait", "--for=condition=Established", "--timeout=30s", *files)
