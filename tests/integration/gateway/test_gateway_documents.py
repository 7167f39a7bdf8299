"""Uploads: JSON all or none, NDJSON line by line in constant memory; deletion; progress."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cortex_workloads.runtime.errors import Unavailable
from cortex_workloads.runtime.progress import ProgressStream, index_key
from datapunk.cortex import control_pb2

DOCUMENTS = "/v1/namespaces/default/indexes/papers/documents"
PROGRESS = "/v1/namespaces/default/indexes/papers/progress"
NDJSON = {"content-type": "application/x-ndjson"}
SSE = {"accept": "text/event-stream"}


def line(key: str, **fields: Any) -> bytes:
    return json.dumps({"id": key, **fields}).encode() + b"\n"


async def test_json_is_written_at_once(papers: Any) -> None:
    documents = [{"id": "1", "content": ""}, {"id": "2", "title": "t"}]
    reply = await papers.http.post(DOCUMENTS, json={"documents": documents})
    assert reply.json() == {"written": 2, "unchanged": 0, "deleted": 0, "waiting": 2}
    assert papers.haystack.batches == [2]


@pytest.mark.parametrize(
    ("documents", "fields"),
    [
        ([], ["/documents"]),
        ([{"id": ""}, {"title": "no id"}], ["/documents/0/id", "/documents/1/id"]),
        ([{"id": "x" * 513, "text": "?"}], ["/documents/0/id", "/documents/0/text"]),
        ([{"id": "1", "title": "x" * 2001, "content": 5, "meta": []}], None),
        ([{"id": str(n)} for n in range(1001)], ["/documents"]),
        ([{"id": "1"}, {"id": "bad"}], ["documents[1].id"]),
    ],
)
async def test_one_wrong_document_refuses_a_json_upload(papers: Any, documents: Any, fields: list[str] | None) -> None:
    reply = await papers.http.post(DOCUMENTS, json={"documents": documents})
    assert reply.status_code == 422
    found = [error["field"] for error in reply.json()["errors"]]
    assert found == (fields or ["/documents/0/title", "/documents/0/content", "/documents/0/meta"])
    assert papers.haystack.documents == {}


async def test_lines_may_end_as_they_like(papers: Any) -> None:
    content = b"\xef\xbb\xbf" + b'{"id":"1"}\r\n\r\n   \n{"id":"2"}\n\n{"id":"3"}'
    reply = await papers.http.post(DOCUMENTS, content=content, headers=NDJSON)
    assert reply.json()["written"] == 3
    assert list(papers.haystack.documents) == ["1", "2", "3"]


async def test_bad_lines_are_named_and_the_others_stand(papers: Any) -> None:
    content = b"".join(
        [
            line("1"),
            b'{"id": "2"\n',
            b'{"id": "3", "content": "\xff\xfe"}\n',
            b'{"title": "no id"}\n',
            line("bad one"),
            b"[1]\n",
            line("6", content="x\0y"),
            line("7"),
        ]
    )
    reply = await papers.http.post(DOCUMENTS, content=content, headers=NDJSON)
    body = reply.json()
    assert (reply.status_code, body["reason"], body["accepted"], body["refused"]) == (422, "LinesRefused", 2, 6)
    assert [error["line"] for error in body["errors"]] == [2, 3, 4, 5, 6, 7]
    reasons = [error["reason"] for error in body["errors"]]
    for reason, says in zip(reasons, ("JSON", "UTF-8", "/id", "is bad", "document", "U+0000"), strict=True):
        assert says in reason, reasons
    assert sorted(papers.haystack.documents) == ["1", "7"]


async def test_only_the_first_hundred_bad_lines_are_listed(papers: Any) -> None:
    reply = await papers.http.post(DOCUMENTS, content=b"?\n" * 250 + line("1"), headers=NDJSON)
    assert (len(reply.json()["errors"]), reply.json()["refused"], reply.json()["accepted"]) == (100, 250, 1)


async def test_the_later_of_two_lines_with_the_same_id_stands(papers: Any) -> None:
    content = line("1", content="old") + line("2") + line("1", content="new")
    reply = await papers.http.post(DOCUMENTS, content=content, headers=NDJSON)
    assert reply.json()["written"] == 3
    assert papers.haystack.documents["1"].content == "new"
    assert papers.haystack.batches == [2, 1]


async def test_many_lines_go_in_bounded_batches(papers: Any) -> None:
    content = b"".join(line(str(n)) for n in range(1234))
    reply = await papers.http.post(DOCUMENTS, content=content, headers=NDJSON)
    assert reply.json()["written"] == 1234
    assert papers.haystack.batches == [500, 500, 234]


async def test_batches_are_bounded_in_bytes(papers: Any) -> None:
    content = b"".join(line(str(n), content="x" * 1_500_000) for n in range(5))
    reply = await papers.http.post(DOCUMENTS, content=content, headers=NDJSON)
    assert reply.json()["written"] == 5
    assert papers.haystack.batches == [2, 2, 1]


async def test_a_huge_line_is_refused_without_being_held(papers: Any) -> None:
    async def huge() -> AsyncIterator[bytes]:
        yield line("1") + b'{"id": "2", "content": "'
        for _ in range(100):
            yield b"x" * 1024 * 1024
        yield b'"}\n' + line("3")

    tracemalloc.start()
    reply = await papers.http.post(DOCUMENTS, content=huge(), headers=NDJSON)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reply.status_code == 422
    assert [error["line"] for error in reply.json()["errors"]] == [2]
    assert "4,194,304" in reply.json()["errors"][0]["reason"]
    assert sorted(papers.haystack.documents) == ["1", "3"]
    assert peak < 40 * 1024 * 1024


async def test_the_gateway_reads_no_faster_than_the_index_writes(papers: Any) -> None:
    papers.haystack.hold = asyncio.Event()
    sent = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal sent
        for n in range(40):
            sent += 1
            yield line(str(n), content="x" * 1_000_000)

    upload = asyncio.create_task(papers.http.post(DOCUMENTS, content=source(), headers=NDJSON))
    before = -1
    while sent != before or sent < 4:
        before = sent
        await asyncio.wait({upload}, timeout=0.3)
    assert sent < 25, "the sender is held while the first batch is being written"
    papers.haystack.hold.set()
    assert (await upload).json()["written"] == 40


async def test_an_upload_that_is_cut_off_says_what_stands(papers: Any) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"".join(line(str(n)) for n in range(501))
        await papers.haystack.wrote.wait()
        papers.haystack.fail = Unavailable("the Lake is gone", reason="LakeUnreachable")
        yield line("last")

    reply = await papers.http.post(DOCUMENTS, content=source(), headers=NDJSON)
    body = reply.json()
    assert (reply.status_code, body["reason"], body["accepted"], body["line"]) == (503, "LakeUnreachable", 500, 501)


async def test_an_unknown_index_is_refused_before_anything_is_read(papers: Any) -> None:
    reply = await papers.http.post(DOCUMENTS.replace("papers", "other"), content=line("1"), headers=NDJSON)
    assert (reply.status_code, reply.json()["reason"]) == (404, "IndexNotFound")


async def test_a_document_list_is_refused_in_plain_words(papers: Any) -> None:
    body = (await papers.http.post(DOCUMENTS, json={"documents": []})).json()
    assert body["errors"] == [{"field": "/documents", "message": "has at least 1 item, found 0"}]
    body = (await papers.http.post(DOCUMENTS, json={"documents": [{"id": "1", "contents": "x"}]})).json()
    assert body["errors"] == [
        {"field": "/documents/0/contents", "message": "there is no such field; did you mean content?"}
    ]


async def test_documents_that_are_too_large_are_told_the_limit_of_one(papers: Any) -> None:
    reply = await papers.http.post(DOCUMENTS, json={"documents": [{"id": "1", "content": "x" * 9_000_000}]})
    assert reply.status_code == 413
    assert reply.json()["remedy"].startswith("a document has at most 1 MiB of content")


async def test_delete_takes_any_id(papers: Any) -> None:
    await papers.http.post(DOCUMENTS, json={"documents": [{"id": "a/b c?"}]})
    reply = await papers.http.delete(f"{DOCUMENTS}/a%2Fb%20c%3F")
    assert reply.json()["deleted"] == 1
    assert (await papers.http.delete(f"{DOCUMENTS}/a%2Fb%20c%3F")).json()["deleted"] == 0


async def test_progress_is_what_the_lake_says(papers: Any) -> None:
    assert (await papers.http.get(PROGRESS)).json() == {
        "revision": "0123456789", "documents": 5, "embedded": 3, "waiting": 2, "rate": 0.0, "phase": "Embedding",
    }  # fmt: skip


async def test_progress_is_of_the_revision_that_is_being_built(papers: Any) -> None:
    papers.control.more = [
        control_pb2.Revision(id="aaaaaaaaaa", phase="REVISION_PHASE_RETAINED", documents=5),
        control_pb2.Revision(id="bbbbbbbbbb", phase="REVISION_PHASE_BUILDING", documents=1, waiting=4),
    ]
    assert (await papers.http.get(PROGRESS)).json() == {
        "revision": "bbbbbbbbbb", "documents": 5, "embedded": 1, "waiting": 4, "rate": 0.0, "phase": "Embedding",
    }  # fmt: skip


async def test_progress_streams_and_resumes(papers: Any) -> None:
    fields = {"revision": "r", "documents": 9, "embedded": 1, "waiting": 8, "rate": 2.5, "phase": "Embedding"}
    key = index_key("default", "papers")
    async with ProgressStream(papers.state_url) as state:
        first = await state.append(key, fields)
        seen = []
        async with papers.http.stream("GET", PROGRESS, headers=SSE) as reply:
            lines = reply.aiter_lines()
            seen.append([await anext(lines) for _ in range(4)])
            second = await state.append(key, {**fields, "embedded": 2})
            seen.append([await anext(lines) for _ in range(4)])
        async with papers.http.stream("GET", PROGRESS, headers={**SSE, "last-event-id": first}) as reply:
            lines = reply.aiter_lines()
            again = [await anext(lines) for _ in range(4)]
    assert seen[0][:2] == [f"id: {first}", "event: progress"]
    assert json.loads(seen[0][2].removeprefix("data: "))["documents"] == 5, "it begins with what the Lake says"
    assert again == seen[1]
    assert again[0] == f"id: {second}"
    assert json.loads(again[2].removeprefix("data: ")) == {**fields, "embedded": 2}
