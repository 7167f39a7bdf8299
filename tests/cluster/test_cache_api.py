"""spec.cache before a real API server: what it takes, fills in and refuses."""

from __future__ import annotations

from typing import Any

import pytest
from cortex_kinds.cache import IndexCache, WorkflowCache
from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl
from objects import Place


@pytest.mark.parametrize(
    ("kind", "cache"),
    [
        ("index", {"queries": {"memory": "0"}, "answers": {"ttl": "24h", "sharedEntry": "1Mi"}, "warming": {}}),
        ("workflow", {"nodeResults": {"memory": "9Gi"}}),
    ],
)
def test_what_is_left_out_is_filled_in_with_the_defaults_of_the_model(
    kubectl: Kubectl, namespace: str, kind: str, cache: dict[str, Any]
) -> None:
    place = Place(namespace)
    manifest = place.index(spec__cache=cache) if kind == "index" else place.workflow(spec__cache=cache)
    model = IndexCache if kind == "index" else WorkflowCache
    kubectl.apply([manifest], f"--namespace={namespace}")
    name = manifest["metadata"]["name"]
    stored = kubectl.get(f"{manifest['kind'].lower()}/{name}", f"--namespace={namespace}")["spec"]["cache"]
    assert stored == model.model_validate(cache).to_manifest()


@pytest.mark.parametrize(
    ("kind", "cache", "words"),
    [
        ("index", {"queries": {"memory": "10Gi"}}, "memory is a whole quantity up to 9999Mi or 9Gi"),
        ("index", {"queries": {"memory": "500m"}}, "memory is a whole quantity up to 9999Mi or 9Gi"),
        ("index", {"answers": {"memory": 0}}, "expected string"),
        ("index", {"answers": {"sharedEntry": "2Mi"}}, "sharedEntry is a whole quantity up to 999Ki or 1Mi"),
        ("index", {"answers": {"ttl": "24h1s"}}, "ttl is at most 24h"),
        ("index", {"warming": {"requests": 1001}}, "less than or equal to 1000"),
        ("index", {"nodeResults": {}}, "unknown field"),
        ("workflow", {"nodeResults": {"memory": "1Ti"}}, "memory is a whole quantity up to 9999Mi or 9Gi"),
        ("workflow", {"nodeResults": {"ttl": "1h"}}, "unknown field"),
    ],
)
def test_the_api_server_refuses_what_cannot_work(
    kubectl: Kubectl, namespace: str, kind: str, cache: dict[str, Any], words: str
) -> None:
    place = Place(namespace)
    make = place.index if kind == "index" else place.workflow
    with pytest.raises(BedError, match=words):
        kubectl.apply([make(spec__cache=cache)], f"--namespace={namespace}")
