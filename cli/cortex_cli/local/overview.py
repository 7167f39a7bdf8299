"""How everything is, as rows for people: servers, gateway, resources, pods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cortex_kinds.base import API_VERSION
from cortex_kinds.conditions import Reason
from cortex_operator.cluster.port import Cluster, Object

from cortex_cli.local.gateway import NAME, NAMESPACE
from cortex_cli.local.kubelet import process_name
from cortex_cli.local.pod_status import container_status, is_ready, is_terminating
from cortex_cli.local.processes import Processes
from cortex_cli.local.servers import ServerKeeper
from cortex_cli.local.templates import named_ports

USERS_TURN: Final = frozenset(
    {Reason.INDEX_NOT_FOUND, Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_MISSING, Reason.CONFIG_MAP_NOT_FOUND,
     Reason.CONFIG_MAP_KEY_MISSING, Reason.INVALID_SPEC, Reason.APPLY_REFUSED, Reason.GRAPH_INVALID}
)  # fmt: skip
"""Reasons that only a change of what was applied takes away."""


@dataclass(frozen=True)
class Row:
    """One line of `cortex status`. `final`: it will not become ready by waiting; `fatal`: neither will the rest."""

    component: str
    ready: bool
    reason: str
    message: str = ""
    pid: int = 0
    port: str = ""
    restarts: int = 0
    log: str = ""
    pod: bool = False
    final: bool = False
    fatal: bool = False


async def rows(cluster: Cluster, keepers: list[ServerKeeper], processes: Processes) -> list[Row]:
    """Everything, in the order in which it depends on each other."""
    found = [_server(keeper, processes) for keeper in keepers]
    pods = await cluster.list("v1", "Pod")
    deployments = await cluster.list("apps/v1", "Deployment", namespace=NAMESPACE)
    found += [_gateway(d, pods, processes) for d in deployments if d["metadata"]["name"] == NAME]
    for kind in ("CortexIndex", "CortexWorkflow"):
        found += [_resource(obj) for obj in await cluster.list(API_VERSION, kind)]
    return found + [_pod(pod, processes) for pod in pods]


def _server(keeper: ServerKeeper, processes: Processes) -> Row:
    state = keeper.state
    return Row(
        component=keeper.kind.title,
        ready=state.ready,
        reason=state.reason,
        message=state.message,
        pid=state.pid,
        port=str(state.port or ""),
        restarts=state.restarts,
        fatal=state.reason == "CannotStart",
        log=str(processes.log(keeper.kind.name)),
    )


def _gateway(deployment: Object, pods: list[Object], processes: Processes) -> Row:
    status = deployment.get("status", {})
    current = status.get("observedGeneration") == deployment["metadata"].get("generation")
    ready = current and status.get("readyReplicas", 0) == status.get("updatedReplicas", 0) == 1
    mine = [p for p in pods if p["metadata"]["labels"].get("app.kubernetes.io/name") == NAME and not is_terminating(p)]
    row = _pod(mine[-1], processes) if mine else Row("", False, "Starting")
    return Row(
        component="Gateway",
        ready=bool(ready),
        reason="Ready" if ready else row.reason,
        message="" if ready else row.message,
        pid=row.pid,
        port=row.port,
        restarts=row.restarts,
        log=row.log,
        fatal=row.reason == "PortInUse",
    )


def _resource(obj: Object) -> Row:
    meta, status = obj["metadata"], obj.get("status", {})
    conditions: dict[str, Any] = {c["type"]: c for c in status.get("conditions", [])}
    ready = conditions.get("Ready", {})
    current = ready.get("observedGeneration") == meta.get("generation")
    return Row(
        component=f"{obj['kind']} {meta['namespace']}/{meta['name']}",
        ready=ready.get("status") == "True" and current,
        reason=ready.get("reason", "Pending") if current else "Pending",
        message=ready.get("message", "") if current else "the operator has not seen it yet",
        final=current and (conditions.get("Stalled", {}).get("status") == "True" or ready.get("reason") in USERS_TURN),
    )


def _pod(pod: Object, processes: Processes) -> Row:
    status = container_status(pod)
    state: dict[str, Any] = next(iter((status.get("state") or {}).items()), ("waiting", {}))[1]
    phase = pod.get("status", {}).get("phase", "Pending")
    reason = "Terminating" if is_terminating(pod) else state.get("reason", "Starting" if phase == "Running" else phase)
    ports = {name: port for name, port in named_ports(pod).items() if not name.isdigit() and name in ("http", "grpc")}
    return Row(
        component=f"Pod {pod['metadata']['namespace']}/{pod['metadata']['name']}",
        ready=is_ready(pod),
        reason="Ready" if is_ready(pod) else reason,
        message="" if phase == "Succeeded" else state.get("message", "") or _why_not(pod),
        pid=int(status.get("containerID", "process://0").removeprefix("process://")),
        port=" ".join(str(port) for port in ports.values()),
        restarts=int(status.get("restartCount", 0)),
        log=str(processes.log(process_name(pod))),
        pod=True,
    )


def _why_not(pod: Object) -> str:
    if is_ready(pod):
        return ""
    conditions = pod.get("status", {}).get("conditions", [])
    message = next((str(c.get("message", "")) for c in conditions if c["type"] == "Ready"), "")
    return message.partition(": ")[2]  # after the container's name: there is one
