"""Fake GPU nodes under the real scheduler."""

from __future__ import annotations

from typing import Any

import pytest
from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl

RESTRICTED = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
CLOSED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def pod(name: str, resource: str, amount: int, selector: dict[str, str] | None = None) -> dict[str, Any]:
    limits = {resource: str(amount)}
    container = {"name": "main", "image": "none", "securityContext": CLOSED, "resources": {"limits": limits}}
    spec = {
        "securityContext": RESTRICTED,
        "containers": [container],
        "nodeSelector": selector or {},
        "tolerations": [{"key": f"{vendor}/gpu", "operator": "Exists"} for vendor in ("nvidia.com", "amd.com")],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize(
    ("resource", "selector", "pool"),
    [
        ("nvidia.com/gpu", {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}, "h100"),
        ("nvidia.com/gpu", {"nvidia.com/gpu.product": "Tesla-T4-SHARED"}, "t4-shared"),
        ("nvidia.com/gpu", {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"}, "a100-mig-single"),
        ("nvidia.com/mig-3g.40gb", {}, "a100-mig-mixed"),
        ("amd.com/gpu", {}, "mi300x"),
    ],
)
def test_pod_runs_on_the_pool_that_has_its_device(
    pools: dict[str, list[str]],
    kubectl: Kubectl,
    namespace: str,
    resource: str,
    selector: dict[str, str],
    pool: str,
) -> None:
    kubectl.apply([pod("wants", resource, 1, selector)], f"--namespace={namespace}")
    kubectl("wait", "pod/wants", "--for=condition=Ready", f"--namespace={namespace}", "--timeout=55s")
    placed = kubectl.get("pod/wants", f"--namespace={namespace}")
    assert placed["spec"]["nodeName"] in pools[pool]


def test_pod_that_no_node_has_room_for_stays_pending_and_says_why(
    pools: dict[str, list[str]], kubectl: Kubectl, namespace: str
) -> None:
    assert "mi300x" in pools
    kubectl.apply([pod("wants", "amd.com/gpu", 9)], f"--namespace={namespace}")
    wait = ("wait", "pod/wants", f"--namespace={namespace}", "--timeout=55s")
    kubectl(*wait, "--for=jsonpath={.status.conditions[?(@.type=='PodScheduled')].reason}=Unschedulable")
    (condition,) = kubectl.get("pod/wants", f"--namespace={namespace}")["status"]["conditions"]
    assert "Insufficient amd.com/gpu" in condition["message"]


def test_pods_of_a_deployment_run_and_those_of_a_job_succeed(kubectl: Kubectl, namespace: str) -> None:
    template = {"metadata": {"labels": {"app": "a"}}, "spec": pod("a", "cpu", 1)["spec"]}
    deployment = {"selector": {"matchLabels": {"app": "a"}}, "replicas": 2, "template": template}
    once = {"template": {**template, "spec": {**template["spec"], "restartPolicy": "Never"}}}
    kubectl.apply(
        [
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": deployment},
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": once},
        ],
        f"--namespace={namespace}",
    )
    wait = ("wait", f"--namespace={namespace}", "--timeout=55s")
    kubectl(*wait, "deployment/a", "--for=condition=Available")
    kubectl(*wait, "job/once", "--for=condition=Complete")


def test_namespace_refuses_a_pod_that_is_not_restricted(kubectl: Kubectl, namespace: str) -> None:
    loose = pod("loose", "cpu", 1)
    del loose["spec"]["securityContext"]
    with pytest.raises(BedError, match='violates PodSecurity "restricted'):
        kubectl.apply([loose], f"--namespace={namespace}")
