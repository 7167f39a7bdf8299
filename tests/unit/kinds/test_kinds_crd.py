"""The generated CRDs: what apiextensions v1 asks of a structural schema, and what the design asks of ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
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
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string",
}  # fmt: skip
TYPES = ("object", "array", "string", "integer", "boolean", "integer-or-string")
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
    (f"{kind.short}{path}", field)
    for kind in KINDS
    for path, field in schemas(version(kind)["schema"]["openAPIV3Schema"])
]


def kind_of(schema: Schema) -> str:
    """`integer-or-string` has no type of its own."""
    return "integer-or-string" if schema.get("x-kubernetes-int-or-string") else schema["type"]


def offenders(check: Callable[[Schema], bool], type: str = "") -> list[str]:
    of_type = [(path, schema) for path, schema in ALL if type in ("", kind_of(schema))]
    assert len(of_type) >= 4
    return [path for path, schema in of_type if not check(schema)]


def test_every_schema_is_structural() -> None:
    assert offenders(lambda s: set(s) <= ALLOWED) == []
    assert offenders(lambda s: kind_of(s) in TYPES) == []
    assert offenders(lambda s: not ("properties" in s and "additionalProperties" in s)) == []
    assert offenders(lambda s: set(s.get("required", ())) <= set(s.get("properties", ()))) == []


def test_every_field_is_described() -> None:
    def described(schema: Schema) -> bool:
        return all(f.get("description") for name, f in schema.get("properties", {}).items() if name != "metadata")

    assert offenders(described, "object") == []


def test_every_string_list_number_and_map_is_bounded() -> None:
    def closed(schema: Schema) -> bool:
        return bool({"properties", "x-kubernetes-preserve-unknown-fields", "maxProperties"} & set(schema))

    assert offenders(lambda s: "maxLength" in s or "enum" in s or "*" not in s.get("pattern", "*"), "string") == []
    assert offenders(lambda s: "maxItems" in s and s["x-kubernetes-list-type"] in ("map", "atomic"), "array") == []
    assert offenders(lambda s: "minimum" in s and s["format"] in ("int32", "int64"), "integer") == []
    assert offenders(closed, "object") == []
    either = {"minimum", "maximum", "maxLength", "pattern"}
    assert offenders(lambda s: either <= set(s) and "type" not in s, "integer-or-string") == []


def test_keys_of_list_maps_are_required_strings() -> None:
    def keyed(schema: Schema) -> bool:
        keys, items = schema.get("x-kubernetes-list-map-keys", ()), schema["items"]
        return all(key in items["required"] and items["properties"][key]["type"] == "string" for key in keys)

    assert offenders(keyed, "array") == []


def test_defaults_are_valid() -> None:
    def within(schema: Schema) -> bool:
        return "default" not in schema or schema["minimum"] <= schema["default"] <= schema["maximum"]

    def matches(schema: Schema) -> bool:
        default = schema.get("default")
        allowed = default in schema.get("enum", [default])
        return default is None or (allowed and bool(re.search(schema.get("pattern", ""), default)))

    assert offenders(within, "integer") == []
    assert offenders(matches, "string") == []


@pytest.mark.parametrize(
    ("kind", "manifest"), [(KINDS[0], a_cortex_index_manifest()), (KINDS[1], a_cortex_workflow_manifest())]
)
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
