"""Valid resources for tests; double underscores reach inside: `a_cortex_index(spec__replicas=3)`."""

from __future__ import annotations

from typing import Any

from cortex_kinds.base import API_VERSION
from cortex_kinds.index import CortexIndex
from cortex_kinds.workflow import CortexWorkflow


def a_cortex_index_manifest(**overrides: Any) -> dict[str, Any]:
    """A valid CortexIndex `papers` as it stands in a manifest (camelCase)."""
    manifest: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": "CortexIndex",
        "metadata": {"name": "papers", "namespace": "default"},
        "spec": {},
    }
    return _with(manifest, overrides)


def a_cortex_workflow_manifest(**overrides: Any) -> dict[str, Any]:
    """A valid CortexWorkflow `helpdesk` over the index `papers`: retrieve -> judge -> answer or refuse."""
    manifest: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": "CortexWorkflow",
        "metadata": {"name": "helpdesk", "namespace": "default"},
        "spec": {
            "indexes": [{"name": "papers"}],
            "input": {
                "schema": {
                    "type": "object",
                    "properties": {"question": {"type": "string", "maxLength": 2000}},
                    "required": ["question"],
                }
            },
            "nodes": [
                {"name": "retrieve", "type": "Search", "search": {"index": "papers", "query": "state.question"}},
                {
                    "name": "judge",
                    "type": "Route",
                    "route": {"cases": [{"when": "size(state.documents) == 0", "to": "refuse"}], "default": "answer"},
                },
                {
                    "name": "answer",
                    "type": "Extract",
                    "extract": {"question": "state.question", "documents": "state.documents"},
                },
                {"name": "refuse", "type": "Transform", "transform": {"set": {"answer": "'nothing found'"}}},
            ],
            "edges": [
                {"from": "START", "to": "retrieve"},
                {"from": "retrieve", "to": "judge"},
                {"from": "answer", "to": "END"},
                {"from": "refuse", "to": "END"},
            ],
        },
    }
    return _with(manifest, overrides)


def a_cortex_index(**overrides: Any) -> CortexIndex:
    """A valid CortexIndex `papers`; manifest names in the paths (`spec__retrieval__topK=3`)."""
    return CortexIndex.model_validate(a_cortex_index_manifest(**overrides))


def a_cortex_workflow(**overrides: Any) -> CortexWorkflow:
    """A valid CortexWorkflow `helpdesk`; lists are reached by position (`spec__nodes__0__search__topK=3`)."""
    return CortexWorkflow.model_validate(a_cortex_workflow_manifest(**overrides))


def _with(manifest: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    for path, value in overrides.items():
        *parents, last = [int(part) if part.isdigit() else part for part in path.split("__")]
        target: Any = manifest
        for part in parents:
            target = target[part] if isinstance(part, int) else target.setdefault(part, {})
        target[last] = value
    return manifest
