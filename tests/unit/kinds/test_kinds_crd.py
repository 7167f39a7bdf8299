"""The generated CRDs: what apiextensions v1 asks of a structural schema, and what the design asks of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_kinds.cel import Rule
from cortex_kinds.crd import KINDS, Kind, crd, crd_yaml

Schema = dict[str, Any]
ALLOWED = {
    "description", "type", "format", "properties", "required", "items", "additionalProperties", "default", "enum",
    "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
    "x-kubernetes-validations", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
}  # fmt: skip
OWN = {"apiVersion", "kind", "metadata"}
"""What the API server has bounds for itself."""


def version(kind: Kind) -> dict[str, Any]:
    return crd(kind)["spec"]["versions"][0]


def schemas(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        if path or name not in OWN:
            yield from schemas(field, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in schema:
            yield from schemas(schema[inner], f"{path}[]")


ALL = [
    pytest.param(field, id=f"{kind.short}{path}")
    for kind in KINDS
    for path, field in schemas(version(kind)["schema"]["openAPIV3Schema"])
]


@pytest.mark.parametrize("schema", ALL)
def test_structural(schema: Schema) -> None:
    assert set(schema) <= ALLOWED
    assert schema["type"] in ("object", "array", "string", "integer", "boolean")
    assert not ("properties" in schema and "additionalProperties" in schema)
    assert set(schema.get("required", ())) <= set(schema.get("properties", ()))
    assert all(field.get("description") for name, field in schema.get("properties", {}).items() if name != "metadata")


@pytest.mark.parametrize("schema", ALL)
def test_everything_is_bounded(schema: Schema) -> None:
    match schema["type"]:
        case "string":
            assert "maxLength" in schema or "enum" in schema or schema["pattern"].count("*") == 0
        case "array":
            assert "maxItems" in schema
            assert schema["x-kubernetes-list-type"] in ("map", "atomic")
        case "integer":
            assert "minimum" in schema
            assert schema["format"] in ("int32", "int64")
        case "object":
            closed = "properties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
            assert closed or "maxProperties" in schema


@pytest.mark.parametrize("schema", ALL)
def test_keys_of_list_maps_are_required_scalars(schema: Schema) -> None:
    for key in schema.get("x-kubernetes-list-map-keys", ()):
        assert key in schema["items"]["required"]
        assert schema["items"]["properties"][key]["type"] == "string"


@pytest.mark.parametrize("schema", ALL)
def test_defaults_and_patterns_are_valid(schema: Schema) -> None:
    pattern = re.compile(schema.get("pattern", ""))
    default = schema.get("default")
    if isinstance(default, str):
        assert pattern.search(default)
        assert default in schema.get("enum", [default])
    if isinstance(default, int):
        assert schema["minimum"] <= default <= schema["maximum"]


@pytest.mark.parametrize(("kind", "manifest"), zip(KINDS, [a_cortex_index_manifest(), a_cortex_workflow_manifest()]))  # noqa: B905
def test_rules_compile_and_hold_for_a_good_object(kind: Kind, manifest: dict[str, Any]) -> None:
    manifest["spec"].setdefault("chunking", {"splitLength": 8, "splitOverlap": 2})
    rules = list(rules_with_values(version(kind)["schema"]["openAPIV3Schema"], manifest))

    assert len(rules) >= 3
    assert [rule["message"] for rule, value in rules if not Rule(rule["rule"], "").holds(value)] == []


def rules_with_values(schema: Schema, value: Any) -> Iterator[tuple[Schema, Any]]:
    yield from ((rule, value) for rule in schema.get("x-kubernetes-validations", ()))
    for name, field in schema.get("properties", {}).items():
        if name in value:
            yield from rules_with_values(field, value[name])
    if "items" in schema:
        for item in value:
            yield from rules_with_values(schema["items"], item)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.short)
def test_what_every_kind_offers(kind: Kind) -> None:
    spec, one = crd(kind)["spec"], version(kind)
    columns = [column["name"] for column in one["additionalPrinterColumns"]]
    properties = one["schema"]["openAPIV3Schema"]["properties"]

    assert (spec["names"]["shortNames"], spec["names"]["categories"]) == ([kind.short], ["all", "cortex"])
    assert columns[:3] == ["Ready", "Reason", "Revision"]
    assert columns[-1] == "Age"
    assert one["subresources"]["status"] == {}
    assert one["subresources"]["scale"]["labelSelectorPath"] == ".status.selector"
    assert properties["status"]["default"] == {"observedGeneration": -1}
    assert "default" not in properties["spec"]["properties"]["replicas"]
    assert len(one["selectableFields"]) <= 8


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.short)
def test_the_file_is_small_and_reads_back(kind: Kind) -> None:
    text = crd_yaml(kind)

    assert len(text.encode()) < 200_000
    assert yaml.safe_load(text) == crd(kind)


def test_documents_stand_only_among_the_columns_of_an_index() -> None:
    columns = {kind.short: {c["name"] for c in version(kind)["additionalPrinterColumns"]} for kind in KINDS}

    assert columns["cxi"] - columns["cxw"] == {"Documents"}


def test_names_are_ruled_at_the_root() -> None:
    rules = version(KINDS[0])["schema"]["openAPIV3Schema"]["x-kubernetes-validations"]

    assert {"rule", "message"} == set(rules[0])
    assert not Rule(rules[0]["rule"], "").holds({"metadata": {"name": "a" * 41}})
    assert not Rule(rules[1]["rule"], "").holds({"metadata": {"name": "9a"}})
