"""What of `spec.gpu` no node of the cluster offers, free or not. Pure: the scheduler decides, this explains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from cortex_kinds.gpu import GPU

from cortex_operator.cluster import Object
from cortex_operator.manifests.gpu import Requirement, gpu_requirements, gpu_resource

_NAMED: Final = 8
"""Values that a message lists at most."""


def lacking(gpu: GPU, nodes: Sequence[Object]) -> str:
    """What no node has, as a sentence with what there is instead; empty when some node has it all."""
    resource = gpu_resource(gpu)
    offers = {node["metadata"]["name"]: _offered(node, resource) for node in nodes}
    if not any(offers.values()):
        return f"no node offers {resource}"
    if max(offers.values()) < gpu.count:
        return f"no node offers {gpu.count} {resource}, the most is {max(offers.values())}"
    able = [_labels(node) for node in nodes if offers[node["metadata"]["name"]] >= gpu.count]
    required = gpu_requirements(gpu)
    for requirement in required:
        if not any(_meets(labels, requirement) for labels in able):
            return f"no node with {gpu.count} {resource} meets {_text(requirement)}; {_instead(able, requirement)}"
    if not any(all(_meets(labels, r) for r in required) for labels in able):
        return f"no node with {gpu.count} {resource} meets all of: {asked_labels(gpu)}"
    return ""


def asked_labels(gpu: GPU) -> str:
    """What the labels of the node must say, in words."""
    return ", ".join(map(_text, gpu_requirements(gpu)))


def _offered(node: Object, resource: str) -> int:
    return int(((node.get("status") or {}).get("allocatable") or {}).get(resource, 0))


def _labels(node: Object) -> dict[str, str]:
    return dict(node["metadata"].get("labels") or {})


_HOLDS: Final[dict[str, Callable[[str | None, list[str]], bool]]] = {
    "In": lambda found, values: found in values,
    "NotIn": lambda found, values: found not in values,
    "Gt": lambda found, values: found is not None and found.isdecimal() and int(found) > int(values[0]),
    "DoesNotExist": lambda found, _: found is None,
}
_WORDS: Final[dict[str, Callable[[str, list[str]], str]]] = {
    "In": lambda key, values: f"{key} {' or '.join(values)}",
    "NotIn": lambda key, values: f"{key} other than {' or '.join(values)}",
    "Gt": lambda key, values: f"{key} of at least {int(values[0]) + 1}",
    "DoesNotExist": lambda key, _: f"without {key}",
}


def _meets(labels: dict[str, str], requirement: Requirement) -> bool:
    return _HOLDS[requirement["operator"]](labels.get(requirement["key"]), requirement.get("values", []))


def _text(requirement: Requirement) -> str:
    return _WORDS[requirement["operator"]](requirement["key"], requirement.get("values", []))


def _instead(able: Sequence[dict[str, str]], requirement: dict[str, Any]) -> str:
    found = sorted({labels[requirement["key"]] for labels in able if requirement["key"] in labels})
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"there is {', '.join(found[:_NAMED])}{more}" if found else "none has that label"
