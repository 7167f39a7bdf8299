"""What `/healthz` says: the state of each part, with its reason."""

from __future__ import annotations

from typing import Any

from cortex_workloads.gateway.backend import CATALOGUE, Backend
from cortex_workloads.runtime.catalogue import INDEX, WORKFLOW, Resource
from cortex_workloads.runtime.errors import CortexError
from cortex_workloads.runtime.resilience.breaker import State


async def health(backend: Backend) -> dict[str, Any]:
    """`{status: Healthy|Degraded, parts: {NAME: {ok, reason?, message?, circuits?}}}`; a resource's part is
    `KIND NS/NAME`, its `circuits` are `{PORT: Closed|HalfOpen|Open}` of the ports that were called."""
    parts = {"gateway": _gateway(backend), "policies": _policies(backend), "state": await _state(backend)}
    for kind in (INDEX, WORKFLOW):
        parts |= {str(one): _part(backend, one) for one in backend.catalogue.list(kind)}
    return {"status": "Healthy" if all(part["ok"] for part in parts.values()) else "Degraded", "parts": parts}


def _gateway(backend: Backend) -> dict[str, Any]:
    if backend.health.draining:
        return {"ok": False, "reason": "Draining", "message": "the gateway is being stopped"}
    check = backend.health.checks.get(CATALOGUE)
    if check is None or check.ok:
        return {"ok": True}
    return {"ok": False, "reason": check.reason, "message": check.message}


def _policies(backend: Backend) -> dict[str, Any]:
    if problem := backend.policies.problem:
        return {"ok": False, "reason": "PoliciesInvalid", "message": problem}
    return {"ok": True}


async def _state(backend: Backend) -> dict[str, Any]:
    try:
        await backend.progress.ping()
    except CortexError as error:
        return {"ok": False, "reason": error.reason, "message": error.message}
    return {"ok": True}


def _part(backend: Backend, resource: Resource) -> dict[str, Any]:
    said, circuits = _resource(resource), _circuits(backend, resource)
    # What the conditions say is nearer to the cause than a circuit.
    return said | circuits if said["ok"] else circuits | said


def _resource(resource: Resource) -> dict[str, Any]:
    ready = resource.ready
    if ready is None:
        return {"ok": False, "reason": "NotReconciled", "message": "the operator has not seen it yet"}
    needs = resource.condition("DependenciesReady")
    # Ready is about the pods: without the Lake they run, and answer nothing.
    told = needs if needs is not None and needs.status == "False" and ready.status == "True" else ready
    return {"ok": told.status == "True", "reason": told.reason, "message": told.message}


def _circuits(backend: Backend, resource: Resource) -> dict[str, Any]:
    circuits = backend.circuits(resource)
    shown = {"circuits": {port: circuit.state.word for port, circuit in circuits.items()}} if circuits else {}
    for circuit in circuits.values():
        if circuit.state is State.OPEN:
            refusal = circuit.refusal()
            return {"ok": False, "reason": refusal.reason, "message": refusal.message} | shown
    return shown
