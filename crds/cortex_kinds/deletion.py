"""`spec.deletionPolicy`: what becomes of the data of a resource that is deleted."""

from __future__ import annotations

from enum import StrEnum


class DeletionPolicy(StrEnum):
    """What becomes of the data."""

    RETAIN = "Retain"
    DELETE = "Delete"
