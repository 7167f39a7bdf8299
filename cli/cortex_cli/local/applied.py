"""What was applied, by the path that it came from: the next start applies it again, and what is gone is deleted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cortex_operator.cluster.port import Object, ObjectKey

from cortex_cli.local.gateway import GatewayOptions
from cortex_cli.local.launch import write_private

Sources = dict[str, list[Object]]
"""Path of a file or folder -> the objects in it; what was given last stands last."""


@dataclass
class Applied:
    """Kept in a file that only its owner can read: there may be Secrets among the objects."""

    path: Path
    sources: Sources
    gateway: GatewayOptions

    @staticmethod
    def load(path: Path) -> Applied:
        """From the file; empty when there is none."""
        held: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return Applied(path, held.get("sources", {}), GatewayOptions(**held.get("gateway", {})))

    def save(self) -> None:
        """To the file, atomically."""
        write_private(self.path, json.dumps({"sources": self.sources, "gateway": self.gateway.to_json()}))

    def objects(self) -> dict[ObjectKey, Object]:
        """All objects; of one that came from several paths what was given last."""
        return {key_of(obj): obj for objects in self.sources.values() for obj in objects}

    def replace(self, sources: Sources) -> list[ObjectKey]:
        """Takes the sources instead of what came from the same paths before, and over what came from others; returns
        the objects that are gone."""
        before = self.objects().keys()
        others = {path: objects for path, objects in self.sources.items() if path not in sources}
        self.sources = others | sources
        return sorted(before - self.objects().keys())

    def remove(self, keys: set[ObjectKey]) -> None:
        """Forgets objects, wherever they came from."""
        kept = {path: [obj for obj in objects if key_of(obj) not in keys] for path, objects in self.sources.items()}
        self.sources = {path: objects for path, objects in kept.items() if objects}


def key_of(obj: Object) -> ObjectKey:
    """The key of an object as it stands in a file: without a namespace it is in `default`."""
    key = ObjectKey.of(obj)
    return key if key.namespace else ObjectKey(key.api_version, key.kind, "default", key.name)
