"""`spec.caBundle`: whom the pods trust when they connect by TLS."""

from __future__ import annotations

from typing import ClassVar

from cortex_kinds.base import Model
from cortex_kinds.cel import Rule
from cortex_kinds.references import DataKey, ObjectName


class BundleRef(Model):
    """A file of certificates in a ConfigMap or Secret of the resource's own namespace."""

    name: ObjectName
    """The object's name."""
    key: DataKey = "ca.crt"
    """The key of its data: certificates in PEM."""


class CABundle(Model):
    """Certificates of authorities; they take the place of the image's own."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.configMapRef) != has(self.secretRef)",
            "certificates come from exactly one of configMapRef and secretRef",
        ),
    )

    config_map_ref: BundleRef | None = None
    """In a ConfigMap."""
    secret_ref: BundleRef | None = None
    """In a Secret."""

    @property
    def source(self) -> tuple[str, BundleRef]:
        """The kind of the object, ConfigMap or Secret, and where in it."""
        if self.config_map_ref is not None:
            return "ConfigMap", self.config_map_ref
        assert self.secret_ref is not None
        return "Secret", self.secret_ref
