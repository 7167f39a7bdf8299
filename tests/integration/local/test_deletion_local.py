"""Deletions on this machine: the Job that drops the data is a process."""

from __future__ import annotations

from local_cortex import Cortex

INDEX = """
apiVersion: cortex.datapunk.io/v1alpha1
kind: CortexIndex
metadata: {name: papers}
spec: {deletionPolicy: %s}
"""
PAPERS = "/v1/namespaces/default/indexes/papers"
WHALES = {"documents": [{"id": "a", "title": "Whales", "content": "Whales sing at night."}]}


def test_the_data_stays_or_goes_with_the_index_as_its_policy_says(cortex: Cortex) -> None:
    def up(policy: str) -> None:
        (cortex.folder / "index.yaml").write_text(INDEX % policy)
        cortex("up", "-f", "index.yaml", *cortex.ports)

    def found() -> list[str]:
        hits = cortex.post(f"{PAPERS}/search", {"query": "whales", "mode": "Text"})["hits"]
        return [hit["id"] for hit in hits]

    up("Retain")
    cortex.post(f"{PAPERS}/documents", WHALES)
    assert "CortexIndex default/papers: deleted" in cortex("delete", "-f", "index.yaml")

    up("Delete")
    assert found() == ["a"]
    said = cortex("delete", "-f", "index.yaml")
    assert "drops its data" in said
    assert said.endswith("CortexIndex default/papers: deleted\n")
    assert cortex("orphans", "--local") == "no data is known that belongs to no resource\n"

    up("Retain")
    assert found() == []
