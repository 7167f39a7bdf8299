"""A graph pod and an index of another namespace: it is asked by its own name, and only where the pod was told of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

QUESTION = {"question": "how much does a blue whale weigh?"}


@pytest.fixture
def elsewhere(catalogue_file: Path) -> None:
    """The index is in the namespace `library`."""
    catalogue = json.loads(catalogue_file.read_text())
    for item in (*catalogue["items"], *catalogue["endpointSlices"]):
        item["metadata"]["namespace"] = "library"
    catalogue_file.write_text(json.dumps(catalogue))


@pytest.mark.usefixtures("elsewhere")
async def test_an_index_is_asked_by_the_namespace_that_it_is_in(harness: Any, define: Any, index: Any) -> None:
    target = {"papers": "dns:///papers-search-headless.library.svc:50052"}
    client = await harness.start(indexes=target, index_namespaces={"papers": "library"})
    await harness.ready(harness.pods[0])
    await client.ensure(define(spec__indexes=[{"name": "papers", "namespace": "library"}]))
    events = await client.run(QUESTION)
    assert events[-1].WhichOneof("event") == "completed"
    assert [(each.index.namespace, each.index.name) for each in index.requests] == [("library", "papers")]


async def test_an_index_that_the_pod_was_not_told_of_is_not_asked(harness: Any, define: Any, index: Any) -> None:
    client = await harness.start(indexes={})
    await harness.ready(harness.pods[0])
    await client.ensure(define(spec__indexes=[{"name": "papers", "namespace": "library"}]))
    failed = (await client.run(QUESTION))[-1].failed
    assert "knows no address of index 'papers'" in failed.message
    assert "IndexReady" in failed.message
    assert index.requests == []
