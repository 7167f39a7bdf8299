"""The text and the JSON of a plan. Both are golden files, written anew by CORTEX_UPDATE_GOLDEN=1; docs/plan.md shows
the text."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_cli.planning.text import render
from cortex_kinds.common import RevisionStatus
from cortex_kinds.index import CortexIndex
from cortex_kinds.revision import index_definition, revision_id
from cortex_operator.cluster import MemoryCluster, Object
from cortex_operator.preview.report import Report
from objects import a_secret
from previews import key_of, own, planned, reconciled

GOLDEN = Path(__file__).parent / "golden"
DOCS = Path(__file__).parents[3] / "docs" / "plan.md"


def of_papers(**overrides: object) -> Object:
    return a_cortex_index_manifest(metadata__namespace="team-a", **overrides)


async def a_report() -> Report:
    """An index that gets more pods, another image and another chunking, beside a new one with GPUs, one that stays as
    it is, and a workflow that names what is not there."""
    cluster = MemoryCluster()
    await cluster.apply(a_secret("cortex-lake", "team-a", dsn="postgresql://h/d"))
    await cluster.apply(a_secret("cortex-state", "team-a", url="redis://h"))
    before, stays = of_papers(spec__replicas=1), of_papers(metadata__name="notes")
    for manifest in (before, stays):
        await cluster.apply(manifest, field_manager="author")
        await reconciled(cluster, key_of(manifest))
    await _served(cluster, before, documents=2750)
    after = of_papers(spec__replicas=3, spec__image="registry.invalid/own:2", spec__chunking__splitLength=4)
    pictures = of_papers(metadata__name="pictures", spec__gpu={"count": 2, "products": ["NVIDIA-L4"]})
    helpdesk = a_cortex_workflow_manifest(metadata__namespace="team-a", spec__indexes=[{"name": "tickets"}])
    helpdesk["spec"]["nodes"][0]["search"]["index"] = "tickets"
    return Report("https://cluster.example:6443", await planned(cluster, after, pictures, stays, helpdesk), ("a note",))


async def _served(cluster: MemoryCluster, manifest: Object, documents: int) -> None:
    key = own(key_of(manifest))
    status = (await cluster.get(key))["status"]
    id = revision_id(index_definition(CortexIndex.model_validate(manifest).spec))
    revision = RevisionStatus(id=id, phase="Current", documents=documents, waiting=0)
    told = {"currentRevision": id, "documents": documents, "revisions": [revision.to_manifest()]}
    await cluster.patch_status(key, {**status, **told})


@pytest.mark.parametrize("form", ["json", "txt"])
async def test_the_document_is_as_in_the_golden_file(form: str) -> None:
    document = (await a_report()).to_json()
    text = json.dumps(document, indent=2) if form == "json" else render(document)
    path = GOLDEN / f"plan.{form}"
    if os.environ.get("CORTEX_UPDATE_GOLDEN"):
        path.write_text(text + "\n")
    assert text + "\n" == path.read_text()


def test_the_page_shows_what_the_command_prints() -> None:
    assert (GOLDEN / "plan.txt").read_text() in DOCS.read_text()


async def test_the_page_names_every_field() -> None:
    page = DOCS.read_text()
    names = {name for name in _names((await a_report()).to_json()) if name.isalpha() and name[0].islower()}
    assert {name for name in names if f"`{name}`" not in page} == set()


def _names(value: object) -> set[str]:
    """Of the fields at every depth, but for those inside of values that are shown."""
    if isinstance(value, dict):
        below = [inner for name, inner in value.items() if name not in ("before", "after")]
        return {*value, *(name for inner in below for name in _names(inner))}
    return {name for each in value for name in _names(each)} if isinstance(value, list) else set()


async def test_nothing_to_do_is_one_line_more_than_the_resources() -> None:
    cluster = MemoryCluster()
    for secret in (a_secret("cortex-lake", dsn="postgresql://h/d"), a_secret("cortex-state", url="redis://h")):
        await cluster.apply(secret)
    index = a_cortex_index_manifest()
    await cluster.apply(index, field_manager="author")
    await reconciled(cluster, key_of(index))

    text = render(Report("c", await planned(cluster, index)).to_json())

    assert text == "  CortexIndex default/papers: unchanged\n\nNothing to do: 1 resource unchanged."
