"""The volumes of `spec.storage` in a pod."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cortex_kinds.index import CortexIndexSpec
from cortex_workloads.runtime.settings import MODELS_DIRECTORY

_MODELS: Final = "models"


@dataclass(frozen=True)
class Volume:
    """A volume as a pod's spec and its container name it."""

    source: dict[str, Any]
    mount: dict[str, Any]


def index_volumes(spec: CortexIndexSpec) -> tuple[Volume, ...]:
    """The volumes of serving pods and ingest Jobs. Read-only for the claim too, not for the mount alone: a disk that
    many nodes may read is attached to several at once only then."""
    models = spec.storage.models if spec.storage is not None else None
    if models is None:
        return ()
    source = {"claimName": models.claim, "readOnly": True}
    mount = {"name": _MODELS, "mountPath": str(MODELS_DIRECTORY), "readOnly": True}
    return (Volume({"name": _MODELS, "persistentVolumeClaim": source}, mount),)


def models_directory(spec: CortexIndexSpec) -> Path | None:
    """Where the container finds the models; None: no volume has any."""
    return MODELS_DIRECTORY if index_volumes(spec) else None
