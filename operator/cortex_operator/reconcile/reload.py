"""Pods begin anew when a labelled Secret or ConfigMap changes that they read at their start.

The pod annotation has one keyed digest per object. One that is not labelled any more, or not there, keeps the digest
that it had, so that neither taking the label away nor putting it back replaces a pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from cortex_operator.cluster import Event, Object, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.engine import Source
from cortex_operator.reconcile.named import RELOAD, Named

RELOAD_DIGEST: Final = "cortex.datapunk.io/reload-digest"
"""Annotation of the pod template: `secret/NAME=DIGEST`, separated by commas."""
Objects = tuple[Object, ...]


def reload_sources(named: Named) -> list[Source[ResourceKey]]:
    """What is watched of labelled objects: that they change, not what they hold."""

    def users(event: Event) -> Iterable[ResourceKey]:
        return named.tell(ObjectKey.of(event.object))

    return [Source("v1", kind, users, RELOAD, kept=False) for kind in ("Secret", "ConfigMap")]


def reloaded(live: Object | None, reads: Mapping[str, str | None], objects: Objects) -> Objects:
    """The objects with the annotation; pure. `reads`: what the pods read (`secret/NAME`), with its digest where it is
    labelled and known."""
    before = _digests(live)
    now = {name: digest or before.get(name) for name, digest in reads.items()}
    text = ",".join(f"{name}={digest}" for name, digest in sorted(now.items()) if digest)
    return tuple(_annotated(obj, text) if text and obj["kind"] == "Deployment" else obj for obj in objects)


def _digests(deployment: Object | None) -> dict[str, str]:
    template = (deployment or {}).get("spec", {}).get("template", {})
    text = (template.get("metadata", {}).get("annotations") or {}).get(RELOAD_DIGEST, "")
    return {name: digest for name, _, digest in (entry.partition("=") for entry in text.split(","))}


def _annotated(deployment: Object, text: str) -> Object:
    spec: dict[str, Any] = deployment["spec"]
    meta = spec["template"]["metadata"]
    annotations = {**(meta.get("annotations") or {}), RELOAD_DIGEST: text}
    template = {**spec["template"], "metadata": {**meta, "annotations": annotations}}
    return {**deployment, "spec": {**spec, "template": template}}
