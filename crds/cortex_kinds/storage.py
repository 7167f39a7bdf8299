"""`spec.storage`: volumes of the platform team's that the pods of a CortexIndex mount."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from cortex_kinds.base import Model
from cortex_kinds.cel import Rule
from cortex_kinds.references import ObjectName


class VolumeType(StrEnum):
    """Where the files of a volume are."""

    PERSISTENT_VOLUME_CLAIM = "PersistentVolumeClaim"


class ClaimRef(Model):
    """A PersistentVolumeClaim of the resource's own namespace."""

    claim_name: ObjectName
    """The claim's name. Several pods read it at once: where they may be on several nodes, its access mode is
    ReadOnlyMany or ReadWriteMany."""


class ModelsVolume(Model):
    """A volume with a directory for each model. Pods mount it read-only."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.persistentVolumeClaim) == (self.type == 'PersistentVolumeClaim')",
            "`persistentVolumeClaim` is given exactly when `type` is PersistentVolumeClaim",
            ".persistentVolumeClaim",
        ),
    )

    type: VolumeType
    """Which member is set."""
    persistent_volume_claim: ClaimRef | None = None
    """For type PersistentVolumeClaim."""

    @property
    def claim(self) -> str:
        """The name of the claim."""
        assert self.persistent_volume_claim is not None
        return self.persistent_volume_claim.claim_name


class Storage(Model):
    """Volumes that the pods mount."""

    models: ModelsVolume | None = None
    """Embedding models of your own, for `spec.embedding.local.model`. Serving pods and ingest Jobs mount it."""
