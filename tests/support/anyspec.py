"""Specs that a CRD's schema allows, however odd: what an API server may hand to the operator.

Rules in CEL are not followed: what they refuse must do no harm either, as a CRD of another release may lack them.
"""

from __future__ import annotations

import re
from typing import Any, Final

import hypothesis.strategies as st
from cortex_kinds import crd

_ODD: Final = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
_MOST_ITEMS: Final = 4
"""Of a list or map, most of the time; now and then as many as it may have."""
_MOST_TEXT: Final = 40


def fields(kind: str) -> dict[str, st.SearchStrategy[Any]]:
    """The fields of `spec`, with values that are valid by the schema of the kind's CRD."""
    found = next(each for each in crd.KINDS if each.name == kind)
    schema = crd.crd(found)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return {name: _of(inner) for name, inner in schema["properties"]["spec"]["properties"].items()}


def _of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(schema["minimum"], schema["maximum"]) | _text(schema)
    match schema["type"]:
        case "object":
            return _object(schema)
        case "array":
            return _list(schema)
        case "integer":
            return _whole(schema)
        case "boolean":
            return st.booleans()
    return _text(schema)


def _whole(schema: dict[str, Any]) -> st.SearchStrategy[int]:
    most = schema.get("maximum", 2**31 - 1 if schema.get("format") == "int32" else 2**53 - 1)
    least = schema.get("minimum", -most)
    return st.sampled_from([least, most]) | st.integers(least, most)


def _text(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 4096)
    if "pattern" in schema:
        matching = st.from_regex(re.compile(schema["pattern"].replace("$", r"\Z")), fullmatch=False)
        return matching.filter(lambda text: least <= len(text) <= most)
    short = st.text(_ODD, min_size=least, max_size=min(most, _MOST_TEXT))
    return short | st.builds(lambda letter: letter * most, _ODD)


def _list(schema: dict[str, Any]) -> st.SearchStrategy[list[Any]]:
    least, most = schema.get("minItems", 0), schema.get("maxItems", 16)
    items = _of(schema["items"])
    keys = schema.get("x-kubernetes-list-map-keys")
    unique: Any = (lambda item: tuple(item.get(key) for key in keys)) if keys else None
    if schema.get("x-kubernetes-list-type") == "set":
        unique = str
    return st.lists(items, min_size=least, max_size=max(least, min(most, _MOST_ITEMS)), unique_by=unique)


def _object(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "properties" in schema:
        required = set(schema.get("required", ()))
        fields = {name: _of(inner) for name, inner in schema["properties"].items()}
        return st.fixed_dictionaries(
            {name: inner for name, inner in fields.items() if name in required},
            optional={name: inner for name, inner in fields.items() if name not in required},
        )
    if "additionalProperties" in schema:
        most = min(schema.get("maxProperties", 16), _MOST_ITEMS)
        names = st.text(_ODD, min_size=1, max_size=_MOST_TEXT) | st.from_regex(r"\A[a-z][a-z0-9.-]{0,20}[a-z0-9]\Z")
        return st.dictionaries(names, _of(schema["additionalProperties"]), max_size=most)
    return st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(_ODD, max_size=_MOST_TEXT),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(_ODD, max_size=9), inner, max_size=3),
        max_leaves=9,
    ).map(lambda value: value if isinstance(value, dict) else {"type": value})
