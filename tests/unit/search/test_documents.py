"""Every mistake in documents is found, by its field, before anything is written."""

from __future__ import annotations

from typing import Any

import pytest
from cortex_workloads.runtime.errors import InvalidInput, TooLarge
from cortex_workloads.search.documents import NewDocument, check, from_struct
from google.protobuf.struct_pb2 import Struct


def a_document(identity: str = "a", title: str = "", content: str = "text", meta: dict[str, Any] | None = None) -> Any:
    return NewDocument(identity, title, content, meta or {})


def deep(levels: int) -> dict[str, Any]:
    return {"k": deep(levels - 1)} if levels else {}


@pytest.mark.parametrize(
    ("document", "field", "message"),
    [
        (a_document(identity=""), "id", "is empty"),
        (a_document(identity=" "), "id", "is empty"),
        (a_document(identity="x" * 513), "id", "513 characters; the limit is 512"),
        (a_document(identity="a\0"), "id", "NUL"),
        (a_document(title="x" * 2001), "title", "2,001 characters"),
        (a_document(title="a\0"), "title", "NUL"),
        (a_document(content="a\0b"), "content", "NUL"),
        (a_document(title=" ", content="\n"), "content", "is empty, and so is the title"),
        (a_document(content="ok \ud800"), "content", "surrogate pair at character 3"),
        (a_document(content="é" * 524_289), "content", "1,048,578 bytes"),
        (a_document(meta={"a": "x" * 65_600}), "meta", "the limit is 65,536"),
        (a_document(meta={"a": ["x\0"]}), "meta", "a[0] has a NUL"),
        (a_document(meta={"a\0": 1}), "meta", "NUL"),
        (a_document(meta={"a": {"b": float("nan")}}), "meta", "a.b is nan"),
        (a_document(meta={"a": float("inf")}), "meta", "a is inf"),
        (a_document(meta=deep(40)), "meta", "nested deeper"),
        (a_document(meta={"a": object()}), "meta", "JSON"),
    ],
)
def test_a_mistake_is_named(document: NewDocument, field: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check([a_document("fine"), document], [])
    ((path, _),) = [violation for violation in refused.value.violations if message in violation[1]]
    assert path == f"documents[1].{field}"


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        check([a_document(""), a_document("a"), a_document("a", title="x" * 3000)], ["", "a"])
    fields = [field for field, _ in refused.value.violations]
    assert sorted(fields) == [
        "delete_ids[0]",
        "delete_ids[1]",
        "documents[0].id",
        "documents[2].id",
        "documents[2].title",
    ]


@pytest.mark.parametrize(
    ("documents", "delete_ids"),
    [
        ([a_document(str(n)) for n in range(1001)], []),
        ([], [str(n) for n in range(1001)]),
        ([a_document(str(n), content="x" * 1_000_000) for n in range(9)], []),
    ],
)
def test_a_request_has_limits(documents: list[NewDocument], delete_ids: list[str]) -> None:
    with pytest.raises(TooLarge):
        check(documents, delete_ids)


def test_the_limits_themselves_are_allowed() -> None:
    check([a_document("x" * 512, "x" * 2000, "é" * 524_288, {"a": "x" * 65_000}), a_document("b", "title", "")], ["c"])


def test_whole_numbers_of_a_struct_are_integers() -> None:
    struct = Struct()
    struct.update({"year": 2020, "ratio": 0.5, "big": 2.0**60, "list": [1, None, True, {"a": "b"}]})
    found = from_struct(struct)
    assert found == {"year": 2020, "ratio": 0.5, "big": 2.0**60, "list": [1, None, True, {"a": "b"}]}
    assert isinstance(found["year"], int)
