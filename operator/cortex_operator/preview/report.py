"""What a plan says, and its JSON. Its shape is stable: docs/plan.md names every field."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final

from cortex_operator.cluster import ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.preview.changes import Action, FieldChange, ObjectChange
from cortex_operator.preview.gpus import Fits, GPUChange, Verdict
from cortex_operator.preview.pods import PodsChange
from cortex_operator.preview.revision import RevisionChange

VERSION: Final = 1
"""Of the JSON; another one when a field goes or means something else."""


@dataclass(frozen=True)
class Missing:
    """Something that a resource names and that is neither there nor in the plan."""

    kind: str
    name: str
    key: str
    message: str


@dataclass(frozen=True)
class Blocked:
    """Why the operator would not carry the resource out as it is."""

    reason: str
    message: str


@dataclass(frozen=True)
class ResourcePlan:
    """One resource: what the apply changes of it, and what the operator then does."""

    key: ResourceKey
    action: Action
    fields: tuple[FieldChange, ...] = ()
    objects: tuple[ObjectChange, ...] = ()
    pods: PodsChange = field(default_factory=lambda: PodsChange(0, 0))
    gpus: tuple[GPUChange, ...] = ()
    placement: Verdict | None = None
    """Whether its pods with GPUs have room; None: it has none."""
    revision: RevisionChange | None = None
    missing: tuple[Missing, ...] = ()
    blocked: tuple[Blocked, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether anything would be written."""
        return self.action is not Action.NONE or bool(self.objects)


@dataclass(frozen=True)
class Report:
    """A whole plan. `cluster`: what was looked at. `notes`: what was assumed, and what could not be read."""

    cluster: str
    resources: tuple[ResourcePlan, ...]
    notes: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether anything would be written."""
        return any(resource.changes for resource in self.resources)

    def to_json(self) -> dict[str, Any]:
        """The document of `-o json`."""
        return {
            "version": VERSION,
            "cluster": self.cluster,
            "changes": self.changes,
            "summary": summary(self),
            "resources": [_resource(each) for each in self.resources],
            "notes": list(self.notes),
        }


def summary(report: Report) -> dict[str, Any]:
    """Numbers over all resources."""
    resources = report.resources
    objects = [change for each in resources for change in each.objects]
    gpus: dict[str, int] = {}
    for line in (line for each in resources for line in each.gpus):
        gpus[line.resource] = gpus.get(line.resource, 0) + line.after - line.before
    return {
        "resources": {action.value: sum(each.action is action for each in resources) for action in Action},
        "objects": {action.value: sum(c.action is action for c in objects) for action in Action if action != "None"},
        "podsReplaced": sum(each.pods.replaced for each in resources),
        "podsBefore": sum(each.pods.before for each in resources),
        "podsAfter": sum(each.pods.after for each in resources),
        "gpus": gpus,
        "documentsToEmbed": sum((each.revision.to_embed or 0) for each in resources if each.revision),
        "missing": sum(len(each.missing) for each in resources),
        "withoutRoom": sum(each.placement is not None and each.placement.fits is Fits.NO for each in resources),
        "blocked": sum(bool(each.blocked) for each in resources),
    }


def _resource(plan: ResourcePlan) -> dict[str, Any]:
    named = {"kind": plan.key.kind, "namespace": plan.key.namespace, "name": plan.key.name}
    rest = {one.name: _json(getattr(plan, one.name)) for one in fields(plan) if one.name != "key"}
    return {**named, **rest}


def _json(value: Any) -> Any:
    if isinstance(value, ObjectKey):
        return {
            "apiVersion": value.api_version, "kind": value.kind, "namespace": value.namespace, "name": value.name
        }  # fmt: skip
    if is_dataclass(value) and not isinstance(value, type):
        return _merged({_camel(one.name): _json(getattr(value, one.name)) for one in fields(value)})
    return [_json(each) for each in value] if isinstance(value, tuple) else value


def _merged(found: dict[str, Any]) -> dict[str, Any]:
    """An object's key stands in the object itself."""
    key = found.pop("key", None)
    return {**key, **found} if isinstance(key, dict) else found if key is None else {**found, "key": key}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
