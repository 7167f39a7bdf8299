"""Which nodes a pod may have: node selector, node affinity and tolerations against labels and taints."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from cortex_operator.cluster import Object
from cortex_operator.manifests.gpu import Requirement, plainly

_NAMED: Final = 4
"""Values that a message names at most."""


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _more(found: str | None, values: list[str]) -> bool:
    have, bound = _number(found), _number(values[0])
    return have is not None and bound is not None and have > bound


def _less(found: str | None, values: list[str]) -> bool:
    have, bound = _number(found), _number(values[0])
    return have is not None and bound is not None and have < bound


_HOLDS: Final[dict[str, Callable[[str | None, list[str]], bool]]] = {
    "In": lambda found, values: found in values,
    "NotIn": lambda found, values: found not in values,
    "Exists": lambda found, _: found is not None,
    "DoesNotExist": lambda found, _: found is None,
    "Gt": _more,
    "Lt": _less,
}
_WORDS: Final[dict[str, Callable[[list[str]], str]]] = {
    "In": lambda values: _any(values),
    "NotIn": lambda values: f"not {_any(values)}",
    "Exists": lambda _: "there",
    "DoesNotExist": lambda _: "absent",
    "Gt": lambda values: f"at least {int(values[0]) + 1}",
    "Lt": lambda values: f"at most {int(values[0]) - 1}",
}


def unmet(pod: Object, node: Object) -> list[str]:
    """What the node's labels do not meet of the pod's node selector and required node affinity, in words; of several
    terms, of which one is enough, those of the one that lacks least."""
    spec = pod.get("spec") or {}
    labels = node["metadata"].get("labels") or {}
    selector = [{"key": key, "operator": "In", "values": [value]} for key, value in _sorted(spec.get("nodeSelector"))]
    found = list(_broken(selector, labels))
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if required is not None:
        terms = [_of_term(term, node) for term in required.get("nodeSelectorTerms") or ()]
        nearest: list[str] = min(terms, key=len, default=["its node affinity matches nothing"])
        found += nearest
    return found


def untolerated(pod: Object, node: Object) -> list[str]:
    """What keeps the pod off a node whose labels may fit: taints that it does not tolerate, in words."""
    spec, tolerations = node.get("spec") or {}, (pod.get("spec") or {}).get("tolerations") or ()
    taints = [taint for taint in spec.get("taints") or () if taint["effect"] != "PreferNoSchedule"]
    cordoned = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    if spec.get("unschedulable") and not any(taint["key"] == cordoned["key"] for taint in taints):
        taints.append(cordoned)
    return [_taint(taint) for taint in taints if not any(_tolerates(each, taint) for each in tolerations)]


def _of_term(term: dict[str, Any], node: Object) -> list[str]:
    """Fields are the name alone. A term that asks for nothing matches nothing."""
    labels = node["metadata"].get("labels") or {}
    if not term.get("matchExpressions") and not term.get("matchFields"):
        return ["its node affinity has an empty term"]
    name = {"metadata.name": node["metadata"]["name"]}
    return [*_broken(term.get("matchExpressions") or (), labels), *_broken(term.get("matchFields") or (), name)]


def _broken(requirements: Iterable[Requirement], labels: dict[str, str]) -> Iterable[str]:
    for wanted in requirements:
        found, values = labels.get(wanted["key"]), wanted.get("values") or []
        if not _HOLDS[wanted["operator"]](found, values):
            have = "is not there" if found is None else f"is {found}"
            plain = plainly(wanted, found)
            yield plain or f"{wanted['key']} {have} ({_WORDS[wanted['operator']](values)} asked)"


def _tolerates(toleration: dict[str, Any], taint: dict[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return bool(toleration.get("key") == taint["key"] and toleration.get("value", "") == (taint.get("value") or ""))


def _taint(taint: dict[str, Any]) -> str:
    if taint["key"] == "node.kubernetes.io/unschedulable":
        return "is cordoned"
    return (
        f"has the taint {taint['key']}{'=' if taint.get('value') else ''}{taint.get('value') or ''}:{taint['effect']}"
    )


def _any(values: list[str]) -> str:
    more = f" or {len(values) - _NAMED} more" if len(values) > _NAMED else ""
    return f"{' or '.join(values[:_NAMED])}{more}"


def _sorted(found: dict[str, str] | None) -> list[tuple[str, str]]:
    return sorted((found or {}).items())
