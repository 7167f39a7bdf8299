"""`cortex get`: objects of the local cluster, as kubectl shows those of a real one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cortex_cli.commands.common import DEFAULT_DATA_DIR, DataDir, ask, fail
from cortex_cli.commands.table import print_table

CORTEX: Final = "cortex.datapunk.io/v1alpha1"
KINDS: Final = {
    (CORTEX, "CortexIndex"): ("cortexindexes", "cortexindex", "indexes", "index", "cxi"),
    (CORTEX, "CortexWorkflow"): ("cortexworkflows", "cortexworkflow", "workflows", "workflow", "cxw"),
    ("v1", "Pod"): ("pods", "pod", "po"),
    ("apps/v1", "Deployment"): ("deployments", "deployment", "deploy"),
    ("batch/v1", "Job"): ("jobs", "job"),
    ("v1", "Service"): ("services", "service", "svc"),
    ("discovery.k8s.io/v1", "EndpointSlice"): ("endpointslices", "endpointslice"),
    ("v1", "Secret"): ("secrets", "secret"),
    ("v1", "ConfigMap"): ("configmaps", "configmap", "cm"),
    ("v1", "ServiceAccount"): ("serviceaccounts", "serviceaccount", "sa"),
    ("policy/v1", "PodDisruptionBudget"): ("poddisruptionbudgets", "poddisruptionbudget", "pdb"),
    ("networking.k8s.io/v1", "NetworkPolicy"): ("networkpolicies", "networkpolicy", "netpol"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"): ("horizontalpodautoscalers", "horizontalpodautoscaler", "hpa"),
}
CATEGORIES: Final = {"cortex": ("cxi", "cxw"), "all": ("cxi", "cxw", "deploy", "job", "pod", "svc")}
Object = dict[str, Any]


def get(
    kind: Annotated[
        str,
        typer.Argument(
            help="Kinds, by commas: indexes (cxi), workflows (cxw), pods, deploy, jobs, svc, ...; cortex or all."
        ),
    ],
    name: Annotated[str | None, typer.Argument(help="One object; all of the kind without it.")] = None,
    namespace: Annotated[str | None, typer.Option("-n", "--namespace", help="All namespaces without it.")] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="table, wide, yaml, json or name.")] = "table",
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show objects of a kind. Values of Secrets stay hidden."""
    if output not in ("table", "wide", "yaml", "json", "name"):
        fail(f"-o {output} is not known; use table, wide, yaml, json or name")
    objects = _find(data_dir.absolute(), kind, name, namespace)
    if name and not objects:
        fail(f"{kind} {name!r} is not there; see: cortex get {kind}")
    _show(objects, output, single=bool(name) and len(objects) == 1)


def _find(directory: Path, kinds: str, name: str | None, namespace: str | None) -> list[Object]:
    wanted = [part for kind in kinds.lower().split(",") for part in CATEGORIES.get(kind, (kind,))]
    found = []
    for api_version, kind in dict.fromkeys(map(_kind, wanted)):
        objects = ask(directory, "get", apiVersion=api_version, kind=kind, namespace=namespace)
        found += [_hide(obj) for obj in objects if name in (None, obj["metadata"]["name"])]
    return found


def _kind(name: str) -> tuple[str, str]:
    for kind, names in KINDS.items():
        if name in names:
            return kind
    import difflib

    known = [*(name for names in KINDS.values() for name in names), *CATEGORIES]
    near = difflib.get_close_matches(name, known, 1)
    fail(f"there is no kind {name!r}" + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"))


def _hide(obj: Object) -> Object:
    if obj["kind"] != "Secret":
        return obj
    return {**obj, "data": {name: f"(hidden, {len(value)} characters)" for name, value in obj.get("data", {}).items()}}


def _show(objects: list[Object], output: str, single: bool) -> None:
    if output in ("json", "yaml"):
        shown: Any = objects[0] if single else {"apiVersion": "v1", "kind": "List", "items": objects}
        typer.echo(json.dumps(shown, indent=2) if output == "json" else _yaml(shown), nl=output == "json")
    elif output == "name":
        for obj in objects:
            typer.echo(f"{obj['kind'].lower()}/{obj['metadata']['name']}")
    elif not objects:
        typer.echo("there are none")
    else:
        kinds = dict.fromkeys(obj["kind"] for obj in objects)
        for kind in kinds:
            if len(kinds) > 1:
                typer.echo(("" if kind == objects[0]["kind"] else "\n") + kind)
            _table(kind, [obj for obj in objects if obj["kind"] == kind], output == "wide")


def _table(kind: str, objects: list[Object], wide: bool) -> None:
    columns = [(title, cell) for title, only_wide, cell in COLUMNS.get(kind, ()) if wide or not only_wide]
    rows = [[*_place(obj), *(str(cell(obj)) for _, cell in columns), _age(obj)] for obj in objects]
    print_table(("NAMESPACE", "NAME", *(title for title, _ in columns), "AGE"), rows)


def _yaml(value: Any) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def _place(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _age(obj: Object) -> str:
    made = datetime.fromisoformat(obj["metadata"]["creationTimestamp"])
    seconds = int((datetime.now(UTC) - made).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _status(obj: Object, field: str, default: Any = 0) -> Any:
    return obj.get("status", {}).get(field, default)


def _condition(obj: Object, field: str) -> str:
    ready: Object = next((c for c in _status(obj, "conditions", []) if c["type"] == "Ready"), {})
    return str(ready.get(field, "Unknown" if field == "status" else ""))


def _pod_state(pod: Object) -> str:
    statuses = _status(pod, "containerStatuses", [])
    state: dict[str, Any] = statuses[0]["state"] if statuses else {}
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    return str(
        next((value["reason"] for value in state.values() if "reason" in value), _status(pod, "phase", "Pending"))
    )


def _container(pod: Object, field: str) -> Any:
    statuses = _status(pod, "containerStatuses", [])
    return statuses[0].get(field, "") if statuses else ""


def _ports(ports: list[dict[str, Any]], field: str) -> str:
    return ",".join(f"{port.get('name', '')}:{port[field]}" for port in ports)


_CORTEX_COLUMNS: Final = (
    ("READY", False, lambda o: _condition(o, "status")),
    ("REASON", False, lambda o: _condition(o, "reason")),
    ("REVISION", False, lambda o: _status(o, "currentRevision", "")),
    ("REPLICAS", True, lambda o: f"{_status(o, 'readyReplicas')}/{_status(o, 'replicas')}"),
    ("MESSAGE", True, lambda o: _condition(o, "message")),
)
COLUMNS: Final[dict[str, Any]] = {
    "CortexIndex": (*_CORTEX_COLUMNS, ("DOCUMENTS", False, lambda o: _status(o, "documents"))),
    "CortexWorkflow": _CORTEX_COLUMNS,
    "Pod": (
        ("READY", False, lambda o: _condition(o, "status")),
        ("STATUS", False, _pod_state),
        ("RESTARTS", False, lambda o: _container(o, "restartCount")),
        ("PROCESS", True, lambda o: _container(o, "containerID").removeprefix("process://")),
        ("PORTS", True, lambda o: _ports(o["spec"]["containers"][0].get("ports", []), "containerPort")),
    ),
    "Deployment": (
        ("READY", False, lambda o: f"{_status(o, 'readyReplicas')}/{o['spec'].get('replicas', 1)}"),
        ("UP-TO-DATE", False, lambda o: _status(o, "updatedReplicas")),
        ("AVAILABLE", False, lambda o: _status(o, "availableReplicas")),
    ),
    "HorizontalPodAutoscaler": (
        ("TARGET", False, lambda o: o["spec"]["scaleTargetRef"]["name"]),
        ("MIN", False, lambda o: o["spec"]["minReplicas"]),
        ("MAX", False, lambda o: o["spec"]["maxReplicas"]),
    ),
    "Job": (
        ("ACTIVE", False, lambda o: _status(o, "active")),
        ("SUCCEEDED", False, lambda o: _status(o, "succeeded")),
        ("FAILED", False, lambda o: _status(o, "failed")),
    ),
    "Service": (("PORTS", False, lambda o: _ports(o["spec"].get("ports", []), "port")),),
    "EndpointSlice": (
        ("READY", False, lambda o: o["endpoints"][0]["conditions"]["ready"]),
        ("PORTS", False, lambda o: _ports(o["ports"], "port")),
    ),
    "Secret": (("KEYS", False, lambda o: ",".join(o.get("data", {}))),),
    "ConfigMap": (("KEYS", False, lambda o: ",".join(o.get("data", {}))),),
}
"""Kind -> (title, only with -o wide, cell) of each column."""
