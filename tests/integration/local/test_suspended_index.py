"""A suspended index on this machine: its process ends, its documents stay, and it answers again when it resumes."""

from __future__ import annotations

from local_cortex import Cortex

INDEX = "apiVersion: cortex.datapunk.io/v1alpha1\nkind: CortexIndex\nmetadata: {name: papers}\nspec: {suspend: %s}\n"
PAPERS = "/v1/namespaces/default/indexes/papers"
WHALES = {"documents": [{"id": "a", "title": "Whales", "content": "Whales sing at night."}]}


def test_a_suspended_index_has_no_process_and_keeps_its_documents(cortex: Cortex) -> None:
    def up(suspend: str) -> str:
        (cortex.folder / "index.yaml").write_text(INDEX % suspend)
        return cortex("up", "-f", "index.yaml", *cortex.ports)

    up("false")
    cortex.post(f"{PAPERS}/documents", WHALES)

    assert "Suspended" in up("true")
    assert "there are none" not in cortex("get", "svc")
    assert "papers-search-" not in cortex("get", "pods")

    up("false")
    assert [hit["id"] for hit in cortex.post(f"{PAPERS}/search", {"query": "whales", "mode": "Text"})["hits"]] == ["a"]
