"""The fields of the CRDs, and for each a spec with it: what a walk over every field applies.

A new field of a CRD needs a place in `WALKS`; `unwalked` names those that have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from cortex_kinds import crd
from cortex_kinds.graph import graph_mistakes
from cortex_kinds.index import CortexIndex
from cortex_kinds.workflow import CortexWorkflow
from podfields import PREFERRED, REQUIRED
from pydantic import ValidationError

Path = tuple[str, ...]
"""Field names from `spec` on; `[]`: an item of a list, `{}`: a value of a map."""

MODELS: Final = {"CortexIndex": CortexIndex, "CortexWorkflow": CortexWorkflow}
NAMED: Final = "walk"
"""The Secret, ConfigMap, PersistentVolumeClaim, ServiceAccount, PriorityClass and RuntimeClass that the specs name."""
POOL: Final = "research"
"""A pool of GPU nodes."""

_TERM = {"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]}
_SELECTOR = {"matchLabels": {"app": "cache"}, **_TERM}
_NEAR = {
    "topologyKey": "rack",
    "labelSelector": _SELECTOR,
    "namespaces": ["elsewhere"],
    "namespaceSelector": _SELECTOR,
}
_BETWEEN_PODS = {REQUIRED: [_NEAR], PREFERRED: [{"weight": 7, "podAffinityTerm": _NEAR}]}
_TO_NODES = {REQUIRED: {"nodeSelectorTerms": [_TERM]}, PREFERRED: [{"weight": 7, "preference": _TERM}]}
_SPREAD = {
    "maxSkew": 2,
    "topologyKey": "rack",
    "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": _SELECTOR,
    "matchLabelKeys": ["team"],
    "minDomains": 2,
    "nodeAffinityPolicy": "Ignore",
    "nodeTaintsPolicy": "Honor",
}
_TOLERATION = {
    "key": "team", "operator": "Equal", "value": "a", "effect": "NoExecute", "tolerationSeconds": 60,
}  # fmt: skip
_KEY = {"name": NAMED, "key": "token", "optional": True}
_LIMIT = {"concurrent": 3, "waiting": 7, "wait": "1s"}

_COMMON: Final[tuple[dict[str, Any], ...]] = (
    {"image": "registry.invalid/other:2"},
    {"replicas": 3},
    {
        "autoscaling": {
            "minReplicas": 2,
            "maxReplicas": 4,
            "metrics": [{"type": "Memory", "target": "60"}],
            "behavior": {"scaleDown": {"stabilizationWindow": "1m"}},
        }
    },
    {
        "autoscaling": {
            "maxReplicas": 4,
            "metrics": [
                {
                    "type": "Prometheus",
                    "prometheus": {"query": "sum(up)", "threshold": "5", "serverAddress": "http://prometheus:9090"},
                }
            ],
        }
    },
    {"resources": {"requests": {"cpu": "20m"}, "limits": {"memory": "128Mi"}}},
    {"gpu": {"vendor": "NVIDIA", "count": 2, "memory": "40Gi", "products": ["NVIDIA-A100-SXM4-80GB"], "pool": POOL}},
    {"gpu": {"count": 1, "sharing": "TimeSliced"}},
    {"gpu": {"partition": {"mode": "MIG", "profile": "1g.10gb"}}},
    {"gpu": {"vendor": "Intel", "driver": "xe"}},
    {"gpu": {"allocation": "DRA", "memory": "40Gi"}},
    {"update": {"strategy": "Recreate"}},
    {"update": {"maxSurge": "25%", "maxUnavailable": 1}},
    {"placement": {"nodeSelector": {"kubernetes.io/os": "linux"}}},
    {
        "placement": {
            "affinity": {"nodeAffinity": _TO_NODES, "podAffinity": _BETWEEN_PODS, "podAntiAffinity": _BETWEEN_PODS}
        }
    },
    {"placement": {"tolerations": [_TOLERATION]}},
    {"placement": {"topologySpreadConstraints": [_SPREAD]}},
    {"placement": {"priorityClassName": NAMED}},
    {"placement": {"runtimeClassName": NAMED}},
    {"placement": {"queueName": "research"}},
    {"template": {"labels": {"team": "a"}, "annotations": {"team.example/note": "walked"}}},
    {"serviceAccountName": NAMED},
    {"imagePullSecrets": [{"name": NAMED}]},
    {"env": [{"name": "PLAIN", "value": "one"}]},
    {"env": [{"name": "SECRET", "valueFrom": {"secretKeyRef": _KEY}}]},
    {"env": [{"name": "SETTING", "valueFrom": {"configMapKeyRef": _KEY}}]},
    {"env": [{"name": "FIELD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['team']"}}}]},
    {"env": [{"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}}]},
    {"envFrom": [{"prefix": "EXTRA_", "secretRef": {"name": NAMED, "optional": True}}]},
    {"envFrom": [{"configMapRef": {"name": NAMED, "optional": False}}]},
    {"caBundle": {"configMapRef": {"name": NAMED, "key": "roots.pem"}}},
    {"caBundle": {"secretRef": {"name": NAMED, "key": "roots.pem"}}},
    {"network": {"extraEgress": [{"to": [{"podSelector": _SELECTOR, "namespaceSelector": _SELECTOR}]}]}},
    {"network": {"extraEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.9.0.0/16"]}}]}]}},
    {"network": {"extraEgress": [{"ports": [{"protocol": "TCP", "port": 80, "endPort": 90}]}]}},
    {"suspend": True},
    {"deletionPolicy": "Delete"},
    {"state": {"secretRef": {"name": NAMED}}},
    {"lake": {"secretRef": {"name": NAMED}}},
    {"revisions": {"retain": 5}},
)

_SEARCH = {"index": "manuals", "query": "state.question", "topK": 4, "mode": "Text", "into": "found"}
_GRAPH: Final[dict[str, Any]] = {
    "indexes": [{"name": "manuals", "namespace": "elsewhere"}],
    "input": {"schema": {"type": "object", "properties": {"question": {"type": "string"}}}},
    "nodes": [
        {
            "name": "look",
            "type": "Search",
            "search": _SEARCH,
            "timeout": "9s",
            "retry": {"attempts": 4},
            "cache": {"ttl": "9m", "staleWhileRevalidate": "9s"},
        },
        {
            "name": "choose",
            "type": "Route",
            "route": {"cases": [{"when": "size(state.found) == 0", "to": "none"}], "default": "pick"},
        },
        {
            "name": "pick",
            "type": "Extract",
            "extract": {"question": "state.question", "documents": "state.found", "sources": 2, "into": "reply"},
        },
        {"name": "none", "type": "Transform", "transform": {"set": {"reply": "'no'"}}},
    ],
    "edges": [
        {"from": "START", "to": "look"},
        {"from": "look", "to": "choose"},
        {"from": "pick", "to": "END"},
        {"from": "none", "to": "END"},
    ],
}

WALKS: Final[dict[str, tuple[dict[str, Any], ...]]] = {
    "CortexIndex": (
        *_COMMON,
        {"chunking": {"splitBy": "Word", "splitLength": 120, "splitOverlap": 20}},
        {"embedding": {"type": "Local", "local": {"model": "all-MiniLM-L6-v2"}}},
        {
            "embedding": {"local": {"model": "own", "sha256": "0" * 64}},
            "storage": {"models": {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": NAMED}}},
        },
        {"retrieval": {"mode": "Text", "topK": 5, "language": "German"}},
        {"access": {"allowedNamespaces": {"from": "Selector", "selector": _SELECTOR}}},
        {"resilience": {"limits": {"search": _LIMIT, "writing": _LIMIT}}},
        {
            "cache": {
                "queries": {"memory": "8Mi", "ttl": "5m"},
                "answers": {"memory": "9Mi", "sharedEntry": "64Ki", "ttl": "6m"},
                "warming": {"requests": 5},
            }
        },
    ),
    "CortexWorkflow": (
        *_COMMON,
        _GRAPH,
        {"limits": {"steps": 9, "parallelism": 2, "duration": "1m", "stateBytes": "2Mi"}},
        {"execution": {"durability": "Exit"}},
        {"cache": {"nodeResults": {"memory": "9Mi", "sharedEntry": "64Ki"}}},
        {
            "resilience": {
                "circuitBreaker": {
                    "failureRatio": "0.25",
                    "minimumCalls": 3,
                    "window": "1m",
                    "open": "2s",
                    "probe": "3s",
                    "slow": "500ms",
                }
            }
        },
    ),
}
"""By kind, parts of a spec that together have each field at least once; each is valid beside a builder's manifest. A
leaf that can be left out is walked alone, others with their part."""


@dataclass(frozen=True)
class Step:
    """One field that comes and goes: the same spec without it and with it."""

    kind: str
    path: Path
    without: dict[str, Any]
    given: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.kind}-{'.'.join(self.path)}"


def fields(kind: str) -> set[Path]:
    """The leaves of a kind's spec, as its CRD has them."""
    found = next(each for each in crd.KINDS if each.name == kind)
    schema = crd.crd(found)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return set(_leaves(schema["properties"]["spec"], ()))


def unwalked(kind: str) -> set[Path]:
    """Fields of the CRD that no part of `WALKS` has."""
    walked = {path for part in WALKS[kind] for path, _ in _values(part, (), ())}
    return {field for field in fields(kind) if not any(_is_of(path, field) for path in walked)}


def steps(manifest: dict[str, Any]) -> Iterator[Step]:
    """Each field of the manifest's kind once, beside what the manifest has."""
    kind, seen = manifest["kind"], set[Path]()
    leaves = fields(kind)
    for part in WALKS[kind]:
        given = {**manifest["spec"], **part}
        for path, place in _values(part, (), ()):
            field = next(leaf for leaf in leaves if _is_of(path, leaf))
            if field not in seen:
                seen.add(field)
                alone = _less(given, place)
                without = alone if _is_valid(manifest, alone) else manifest["spec"]
                yield Step(kind, field, deepcopy(without), deepcopy(given))


def _leaves(schema: dict[str, Any], path: Path) -> Iterator[Path]:
    if "properties" in schema:
        for name, inner in schema["properties"].items():
            yield from _leaves(inner, (*path, name))
    elif "additionalProperties" in schema:
        yield from _leaves(schema["additionalProperties"], (*path, "{}"))
    elif "items" in schema:
        yield from _leaves(schema["items"], (*path, "[]"))
    else:
        yield path


def _values(value: Any, path: Path, place: tuple[Any, ...]) -> Iterator[tuple[Path, tuple[Any, ...]]]:
    """The leaves of a value, as a path and as keys and positions."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _values(inner, (*path, name), (*place, name))
    elif isinstance(value, list) and value:
        for at, inner in enumerate(value):
            yield from _values(inner, (*path, "[]"), (*place, at))
    else:
        yield path, place


def _is_of(path: Path, field: Path) -> bool:
    """Whether a value's path is that of the field, or inside of one that takes anything."""
    named = zip(path, field, strict=False)
    return len(path) >= len(field) and all(ours == theirs or theirs == "{}" for ours, theirs in named)


def _less(spec: dict[str, Any], place: tuple[Any, ...]) -> dict[str, Any]:
    """The spec without the value at `place`, nor what it leaves empty."""
    spec = deepcopy(spec)
    holders: list[Any] = [spec]
    for key in place[:-1]:
        holders.append(holders[-1][key])
    for holder, key in zip(reversed(holders), reversed(place), strict=True):
        del holder[key]
        if holder:
            break
    return spec


def _is_valid(manifest: dict[str, Any], spec: dict[str, Any]) -> bool:
    try:
        MODELS[manifest["kind"]].model_validate({**manifest, "spec": spec})
    except ValidationError:
        return False
    return manifest["kind"] != "CortexWorkflow" or not list(graph_mistakes(spec))
