"""The API server takes our custom resource definitions, takes the examples and refuses what breaks a rule, in our
words."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.paths import CRDS, ROOT

QUICKSTART = ROOT / "examples" / "quickstart"
WRONG = {
    "overlap": ("index", "chunking.splitOverlap", 8, "splitOverlap must be below splitLength"),
    "enum": ("index", "retrieval.mode", "Guess", 'Unsupported value: "Guess": supported values: '),
    "bound": ("index", "retrieval.topK", 100000, "should be less than or equal to"),
    "typo": ("index", "retrieval.topk", 5, 'unknown field "spec.retrieval.topk"'),
    "gpu-by-resources": (
        "index",
        "resources.limits",
        {"nvidia.com/gpu": "1"},
        "GPUs are asked for by spec.gpu, not by",
    ),
    "taken-name": ("workflow", "nodes.3.name", "END", "START and END are taken: give the node another name"),
    "two-types": ("workflow", "nodes.3.type", "Extract", "`transform` is given exactly when `type` is Transform"),
    "twice": ("workflow", "nodes.3.name", "answer", "Duplicate value"),
    "cached": ("workflow", "nodes.3.cache", {"ttl": "1m"}, "`cache` is for Search and Extract"),
    "kept-long": ("workflow", "nodes.0.cache", {"ttl": "25h"}, "ttl is at most 24h"),
    "no-nodes": ("workflow", "nodes", [], "should have at least 1 items"),
}


def changed(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    document = copy.deepcopy(document)
    *steps, last = path.split(".")
    place: Any = document["spec"]
    for step in steps:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    return document


@pytest.mark.parametrize("file", sorted(CRDS.glob("*.yaml")), ids=lambda file: file.stem.rpartition("_")[2])
def test_definition_is_served_as_it_is_written(kubectl: Kubectl, file: Path) -> None:
    served, written = kubectl.get(f"--filename={file}"), yaml.safe_load(file.read_text())
    conditions = {each["type"]: each["status"] for each in served["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions
    assert served["spec"]["versions"][0]["schema"] == written["spec"]["versions"][0]["schema"]


def test_quickstart_applies(kubectl: Kubectl, namespace: str) -> None:
    said = kubectl("apply", f"--filename={QUICKSTART}", f"--namespace={namespace}")
    assert len(re.findall(r"^cortex(index|workflow)\.cortex\.datapunk\.io/\S+ created$", said, re.MULTILINE)) == 2, said


@pytest.mark.parametrize("mistake", WRONG)
def test_mistake_is_refused_in_words_that_help(kubectl: Kubectl, namespace: str, mistake: str) -> None:
    file, path, value, words = WRONG[mistake]
    document = yaml.safe_load((QUICKSTART / f"{file}.yaml").read_text())
    apply = ("apply", f"--namespace={namespace}", "--dry-run=server", "--filename=-")
    with pytest.raises(BedError, match=re.escape(words)):
        kubectl(*apply, stdin=yaml.safe_dump(changed(document, path, value)))


@pytest.mark.parametrize(("name", "words"), [("a" * 41, "at most 40 characters"), ("7up", "begins with a letter")])
def test_name_that_no_service_can_have_is_refused(kubectl: Kubectl, namespace: str, name: str, words: str) -> None:
    document = yaml.safe_load((QUICKSTART / "index.yaml").read_text())
    document["metadata"]["name"] = name
    with pytest.raises(BedError, match=words):
        kubectl("apply", f"--namespace={namespace}", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump(document))
