"""Revisions: what of a spec defines them, and their id, the same in every cluster."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from cortex_kinds.index import CortexIndexSpec
from cortex_kinds.workflow import CortexWorkflowSpec


def index_definition(spec: CortexIndexSpec) -> dict[str, Any]:
    """What an index revision is built from: embedding, chunking and the analysis of text."""
    return {
        "chunking": spec.chunking.to_manifest(),
        "embedding": spec.embedding.to_manifest(),
        "language": spec.retrieval.language.value,
    }


def workflow_definition(spec: CortexWorkflowSpec) -> dict[str, Any]:
    """What a workflow revision runs: indexes, input, nodes, edges, limits and execution."""
    manifest = spec.to_manifest()
    return {key: manifest[key] for key in ("indexes", "input", "nodes", "edges", "limits", "execution")}


def revision_id(definition: dict[str, Any]) -> str:
    """First 10 hex digits of the SHA-256 of the canonical JSON (sorted keys, no spaces, integers without a point)."""
    canonical = json.dumps(_integers(definition), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def _integers(value: Any) -> Any:
    # google.protobuf.Struct knows doubles only: 8 comes back as 8.0, and the id must not depend on that.
    match value:
        case dict():
            return {key: _integers(item) for key, item in value.items()}
        case list():
            return [_integers(item) for item in value]
        case float() if value.is_integer():
            return int(value)
    return value
