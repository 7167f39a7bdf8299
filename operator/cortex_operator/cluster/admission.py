"""What the store accepts: names, labels, the two kinds of Cortex by their models, fields that cannot change.

Raises Invalid with every mistake at once, as an API server does.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any, Final

from cortex_kinds.base import API_VERSION
from cortex_kinds.fielderrors import sentences
from cortex_kinds.index import CortexIndex, CortexIndexStatus
from cortex_kinds.workflow import CortexWorkflow, CortexWorkflowStatus
from pydantic import BaseModel, ValidationError

from cortex_operator.cluster.fields import copy_json
from cortex_operator.cluster.port import Conflict, Invalid, Lingering, NotFound, Object, ObjectKey, Taken
from cortex_operator.cluster.schema import CLUSTER_SCOPED, IMMUTABLE, WITH_STATUS

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_NAMED_BY_LABEL: Final = frozenset({"Service", "Namespace", "CortexIndex", "CortexWorkflow"})
_MODELS: Final[dict[str, type[BaseModel]]] = {"CortexIndex": CortexIndex, "CortexWorkflow": CortexWorkflow}
_STATUS_MODELS: Final[dict[str, type[BaseModel]]] = {
    "CortexIndex": CortexIndexStatus,
    "CortexWorkflow": CortexWorkflowStatus,
}
DEFAULT_STATUS: Final[Object] = {"observedGeneration": -1}


def is_cortex_kind(key: ObjectKey) -> bool:
    """Whether the object is one of the two kinds."""
    return key.api_version == API_VERSION and key.kind in _MODELS


def normal_key(key: ObjectKey) -> ObjectKey:
    """The key with the namespace as the store has it: none for cluster-scoped kinds, else `default` when empty."""
    namespace = "" if key.kind in CLUSTER_SCOPED else key.namespace or "default"
    return ObjectKey(key.api_version, key.kind, namespace, key.name)


def admit(obj: Object) -> tuple[ObjectKey, Object]:
    """A copy of what a caller applies, with its key: named properly, in a namespace, without a status that it may not
    write. Raises Invalid."""
    config = copy_json(obj)
    try:
        key = normal_key(ObjectKey.of(config))
    except (KeyError, TypeError) as error:
        raise Invalid("an object needs apiVersion, kind and metadata.name") from error
    _refuse(key, _name_mistakes(key, config["metadata"]))
    config["metadata"].pop("namespace", None)
    if key.namespace:
        config["metadata"]["namespace"] = key.namespace
    if key.kind in WITH_STATUS:
        config.pop("status", None)
    if key.kind == "Secret":
        _encode_secret(config)
    return key, config


def _encode_secret(config: Object) -> None:
    plain = config.pop("stringData", None) or {}
    encoded = {name: base64.b64encode(str(text).encode()).decode() for name, text in plain.items()}
    if encoded:
        config["data"] = {**(config.get("data") or {}), **encoded}


def _name_mistakes(key: ObjectKey, meta: dict[str, Any]) -> Iterator[str]:
    short = key.kind in _NAMED_BY_LABEL
    pattern, most = (_LABEL, 63) if short else (_SUBDOMAIN, 253)
    if not pattern.fullmatch(str(key.name)) or len(key.name) > most:
        yield (
            f"metadata.name: {key.name!r:.80} must be at most {most} lower-case letters, digits, '-'"
            f"{'' if short else ' or .'}, and begin and end with a letter or digit"
        )
    if key.namespace and (not _LABEL.fullmatch(key.namespace) or len(key.namespace) > 63):
        yield f"metadata.namespace: {key.namespace!r:.80} is not a DNS label of at most 63 characters"
    for name, value in (meta.get("labels") or {}).items():
        if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value) or len(value) > 63:
            yield f"metadata.labels.{name}: {value!r:.80} is not a label value of at most 63 characters"


def check_preconditions(key: ObjectKey, meta: dict[str, Any], live: Object | None) -> None:
    """Checks the uid and the resourceVersion that a configuration may name. Raises Conflict."""
    for name in ("uid", "resourceVersion"):
        found = live["metadata"][name] if live is not None else "(not there)"
        if meta.get(name) and meta[name] != found:
            raise Conflict(f"{key}: its {name} is {found}, not {meta[name]}; read it again")


def check_uid(key: ObjectKey, live: Object, uid: str | None) -> None:
    """Checks that an object is the one that is meant; None: any of that name. Raises NotFound."""
    if uid is not None and live["metadata"]["uid"] != uid:
        raise NotFound(f"{key} with uid {uid} is not there")


def check_controller(key: ObjectKey, config: Object, live: Object | None) -> None:
    """Sees that a configuration with a controller does not take over what is not the controller's. What has lost its
    controller but is labelled as managed by the same manager is taken back. Raises Taken; Lingering while an
    object of the namesake that was deleted before is still there."""
    mine = _controller(config)
    if live is None or mine is None:
        return
    theirs = _controller(live)
    if theirs is None and _manager(live) and _manager(live) == _manager(config):
        return
    if theirs is not None and theirs["uid"] == mine["uid"]:
        return
    if theirs is not None and (theirs["kind"], theirs["name"]) == (mine["kind"], mine["name"]):
        raise Lingering(
            f"{key} is still that of the {mine['kind']} {mine['name']} that was deleted; it goes soon, and if it does "
            f"not: see metadata.finalizers of {key.kind} {key.name}"
        )
    whose = f"belongs to {theirs['kind']} {theirs['name']}" if theirs else "was not made by Cortex"
    raise Taken(
        f"{key} is there already and {whose}: it is left alone; delete or rename it, or give the {mine['kind']} "
        "another name"
    )


def _controller(obj: Object) -> dict[str, Any] | None:
    owners: list[dict[str, Any]] = obj["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def _manager(obj: Object) -> str:
    return str((obj["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by", ""))


def validate(key: ObjectKey, obj: Object, before: Object | None) -> None:
    """Checks an object as it would be stored. Raises Invalid."""
    if is_cortex_kind(key):
        _refuse(key, _model_mistakes(_MODELS[key.kind], obj))
    if before is not None:
        for path in IMMUTABLE.get(key.kind, ()):
            if _plain(before, path) != _plain(obj, path):
                raise Invalid(f"{key}: {'.'.join(path)} cannot be changed; delete the object and create it again")


def validate_status(key: ObjectKey, status: Object) -> None:
    """Checks a status by its model. Raises Invalid."""
    if key.kind not in WITH_STATUS:
        raise Invalid(f"{key}: {key.kind} has no status")
    if is_cortex_kind(key):
        _refuse(key, (f"status.{m}" for m in _model_mistakes(_STATUS_MODELS[key.kind], status)))


def _model_mistakes(model: type[BaseModel], value: Object) -> Iterator[str]:
    try:
        model.model_validate(value)
    except ValidationError as error:
        yield from sentences(error, model)


def _plain(obj: Object, path: tuple[str, ...]) -> Any:
    node: Any = obj
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _refuse(key: ObjectKey, mistakes: Iterator[str]) -> None:
    if found := list(mistakes):
        raise Invalid(f"{key} is not valid: " + "; ".join(found))
