"""References to Secrets and ConfigMaps of the resource's own namespace."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from cortex_kinds.base import DNS_SUBDOMAIN, Model

DATA_KEY: Final = r"^[-._a-zA-Z0-9]+$"

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
"""The name of a Kubernetes object."""
DataKey = Annotated[str, Field(min_length=1, max_length=253, pattern=DATA_KEY)]
"""A key of a Secret's or ConfigMap's data."""


class SecretRef(Model):
    """A Secret of the resource's own namespace."""

    name: ObjectName
    """The Secret's name."""


class KeyRef(Model):
    """A key of a Secret or ConfigMap of the resource's own namespace."""

    name: ObjectName
    """The object's name."""
    key: DataKey
    """The key of its data."""
    optional: bool | None = None
    """Whether it may be missing; unset: no."""


class DataRef(Model):
    """A Secret or ConfigMap of the resource's own namespace, with all its keys."""

    name: ObjectName
    """The object's name."""
    optional: bool | None = None
    """Whether it may be missing; unset: no."""
