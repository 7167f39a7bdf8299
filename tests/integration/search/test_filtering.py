"""Filters in SQL select what their definition in Python selects, for many filters made at random."""

from __future__ import annotations

import json
import operator
import random
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from cortex_workloads.runtime.errors import InvalidInput
from cortex_workloads.search.documents import NewDocument

DATES = ["2020-01-01", "2020-01-01T12:00:00", "2020-01-02T00:30:00+02:00", "2019-12-31", "2021-06-01T00:00:00Z"]
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    2.5,
    -3,
    "",
    "a",
    "b",
    "A",
    "2",
    "2020-99-99",
    ["a"],
    ["a", "b"],
    [1, "a"],
    [],
]
METAS: list[dict[str, Any]] = [
    {},
    *({"x": value} for value in (*VALUES, *DATES)),
    {"x": {"y": 1}},
    {"x": {"y": "a"}, "z": 1},
]
ORDER: Final = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


def at(meta: Any, path: list[str]) -> Any:
    for key in path:
        meta = meta.get(key) if isinstance(meta, dict) else None
    return meta


def same(one: Any, other: Any) -> bool:
    """JSON's equality: a boolean is not a number, 1 is 1.0."""
    return (type(one) is type(other) and one == other) or (number(one) and number(other) and one == other)


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def date(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def ordered(name: str, value: Any, limit: Any) -> bool:
    if number(value) and number(limit):
        return bool(ORDER[name](value, limit))
    one, other = date(value), date(limit)
    return one is not None and other is not None and bool(ORDER[name](one, other))


def matches(meta: dict[str, Any], node: dict[str, Any]) -> bool:
    if "conditions" in node:
        results = [matches(meta, part) for part in node["conditions"]]
        return {"AND": all(results), "OR": any(results), "NOT": not all(results)}[node["operator"]]
    value, given = at(meta, node["field"].split(".")[1:]), node["value"]
    match node["operator"]:
        case "==":
            return same(value, given)
        case "!=":
            return not same(value, given)
        case "in":
            return any(same(value, item) for item in given)
        case "not in":
            return not any(same(value, item) for item in given)
    return ordered(node["operator"], value, given)


def a_filter(chance: random.Random, depth: int = 3) -> dict[str, Any]:
    if depth and chance.random() < 0.5:
        parts = [a_filter(chance, depth - 1) for _ in range(chance.randint(1, 3))]
        return {"operator": chance.choice(["AND", "OR", "NOT"]), "conditions": parts}
    field, name = (
        chance.choice(["meta.x", "meta.x", "meta.z", "meta.x.y"]),
        chance.choice(["==", "!=", "in", "not in", *ORDER]),
    )
    value: Any = chance.choice(VALUES + DATES)
    if name in ORDER:
        value = chance.choice([0, 1, 2.5, -10, *DATES])
    elif name in ("in", "not in"):
        value = [item for item in chance.choices(VALUES + DATES, k=chance.randint(0, 4)) if not isinstance(item, list)]
    return {"field": field, "operator": name, "value": value}


async def test_agrees_with_its_definition(index: Any) -> None:
    documents = [NewDocument(f"{number:02}", "", "text", meta) for number, meta in enumerate(METAS)]
    await index.write(*documents)
    chance = random.Random(20)
    for _ in range(400):
        node = a_filter(chance)
        expected = [document.id for document in documents if matches(document.meta, node)]
        found = [document.id for document in await index.store.filter_documents_async(node)]
        assert found == expected, json.dumps(node)


async def test_id_and_title(index: Any) -> None:
    await index.write(NewDocument("a", "One", "", {}), NewDocument("b", "Two", "", {"title": "One"}))

    async def found(field: str, name: str, value: Any) -> list[str]:
        node = {"field": field, "operator": name, "value": value}
        return [document.id for document in await index.store.filter_documents_async(node)]

    assert await found("id", "==", "a") == ["a"]
    assert await found("id", "not in", ["a", "c"]) == ["b"]
    assert await found("title", "!=", "One") == ["b"]
    assert await found("meta.title", "==", "One") == ["b"]


async def test_a_filter_that_attacks_finds_nothing_and_harms_nothing(index: Any) -> None:
    await index.write(("a", "text"))
    evil = "x' OR true; DROP TABLE documents; --"
    for node in (
        {"field": f"meta.{evil}", "operator": "==", "value": evil},
        {"field": "meta.x", "operator": "in", "value": [evil, "%s", "%(text)s", "{}"]},
    ):
        assert await index.store.filter_documents_async(node) == []
    with pytest.raises(InvalidInput):
        await index.store.filter_documents_async({"field": evil, "operator": "==", "value": 1})
    assert await index.store.count_documents_async() == 1
