"""What a Deployment says of its own making: which release made its pod template, and from what.

By this, and by nothing else that is stored, an upgrade knows where it is (reconcile/fleet.py, reconcile/upgrade.py).
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Any, Final

from cortex_kinds.common import CommonSpec

from cortex_operator.manifests.release import ReleaseSettings

RELEASE: Final = "cortex.datapunk.io/release"
"""Annotation: `ReleaseSettings.id` of who made the pod template."""
SPEC_DIGEST: Final = "cortex.datapunk.io/spec-digest"
"""Annotation: of the resource's spec, as far as a change of it moves the resource to the operator's release."""
TEMPLATE_DIGEST: Final = "cortex.datapunk.io/template-digest"
"""Annotation: of the pod template as it was made."""
JOB_DIGEST: Final = "cortex.datapunk.io/job-digest"
"""Annotation of an ingest Job: of what of it follows from the spec and the release."""
MOVE: Final = "cortex.datapunk.io/move"
"""Annotation, only while the resource moves to another release and others wait for it: a `Move`."""
ORIGIN: Final = frozenset({RELEASE, SPEC_DIGEST, TEMPLATE_DIGEST, MOVE})
"""What the operator notes for itself."""
UPDATE: Final = "cortex.datapunk.io/update"
"""Annotation of a CortexIndex or CortexWorkflow, set by its users: the release to which it is to move at once."""
_KEPT: Final = frozenset({"replicas", "autoscaling", "suspend", "update", "access", "deletion_policy", "resilience"})
"""Fields of the spec that replace no pod."""


class Move(StrEnum):
    """How a move to another release goes."""

    MOVING = "Moving"
    HALTED = "Halted"
    """It did not become Ready."""


def origin(spec: CommonSpec, template: dict[str, Any], release: ReleaseSettings) -> dict[str, str]:
    """The annotations of a Deployment with this template."""
    return {RELEASE: release.id, SPEC_DIGEST: _spec_digest(spec), TEMPLATE_DIGEST: digest(template)}


def _spec_digest(spec: CommonSpec) -> str:
    # Without defaults: a field that comes with a later release must not look like a change.
    return digest(spec.model_dump(by_alias=True, exclude_defaults=True, exclude=set(_KEPT), mode="json"))


def digest(value: Any) -> str:
    """10 hex digits that tell values apart."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]
