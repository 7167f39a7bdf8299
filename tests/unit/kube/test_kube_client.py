"""Requests, lists and watches: what the server says comes back, and whatever goes wrong is one kind of error."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from aiohttp import web
from cortex_kube.client import Api, ApiError, Conflict, Forbidden, Gone, Invalid, NotFound, Unavailable


def status(code: int, reason: str, message: str, **details: Any) -> dict[str, Any]:
    return {
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }


@pytest.mark.parametrize(
    ("code", "type_"),
    [
        (400, Invalid),
        (401, Forbidden),
        (403, Forbidden),
        (404, NotFound),
        (405, ApiError),
        (409, Conflict),
        (410, Gone),
        (413, Invalid),
        (415, Invalid),
        (422, Invalid),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
    ],
)
async def test_a_refusal_has_the_servers_words(api: Api, server: Any, code: int, type_: type[ApiError]) -> None:
    server.says(status(code, "Because", "it is so", causes=[{"field": "spec.x"}]), code)
    with pytest.raises(ApiError, match=r"^it is so$") as raised:
        await api.request("GET", "/x")
    error = raised.value
    assert type(error) is type_
    assert (error.status, error.reason, error.message) == (code, "Because", "it is so")
    assert error.details == {"causes": [{"field": "spec.x"}]}
    assert error.retry_after is None


async def test_how_long_to_wait_is_told_by_the_header_or_by_the_status(api: Api, server: Any) -> None:
    waits = []
    told = status(429, "TooManyRequests", "slow down", retryAfterSeconds=7)
    for headers in ({"Retry-After": "2"}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {}):
        server.says(told, 429, headers)
        with pytest.raises(Unavailable) as raised:
            await api.request("GET", "/x")
        waits.append(raised.value.retry_after)
    assert waits == [2.0, 7.0, 7.0]


async def test_an_unknown_field_in_an_apply_is_invalid_although_the_server_says_500(api: Api, server: Any) -> None:
    server.says(
        status(500, "", "failed to create typed patch object (x): .spec.nope: field not declared in schema"), 500
    )
    with pytest.raises(Invalid, match="nope"):
        await api.request("PATCH", "/x", body={}, content_type="application/apply-patch+yaml")


async def test_a_refusal_in_plain_text_is_told_too(api: Api, server: Any) -> None:
    server.says("404 page not found\n", 404)
    with pytest.raises(NotFound, match=r"^404 page not found$"):
        await api.request("GET", "/x")
    server.says("", 502)
    with pytest.raises(Unavailable, match="GET /x was answered with 502"):
        await api.request("GET", "/x")


@pytest.mark.parametrize("body", ["<html>", "[]", ""])
async def test_success_that_is_no_object_is_not_success(api: Api, server: Any, body: str) -> None:
    server.says(body)
    with pytest.raises(Unavailable, match="GET /x was answered with what is"):
        await api.request("GET", "/x")


async def test_what_is_asked_arrives_as_it_was_given(api: Api, server: Any) -> None:
    server.says({"ok": True})
    body = {"metadata": {"name": "a"}, "spec": {}}
    query = {"fieldManager": "a b&c", "force": "true"}
    answer = await api.request("PATCH", "/x/y", query=query, body=body, content_type="application/apply-patch+yaml")
    assert answer == {"ok": True}
    (request,) = server.requests
    assert (request.method, request.path, dict(request.query)) == ("PATCH", "/x/y", query)
    assert json.loads(await request.read()) == body
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.headers["User-Agent"] == "datapunk-cortex"


async def test_a_patch_in_operations_arrives_as_a_list(api: Api, server: Any) -> None:
    server.says({})
    operations = [{"op": "remove", "path": "/spec"}]
    await api.request("PATCH", "/x", body=operations, content_type="application/json-patch+json")
    (request,) = server.requests
    assert json.loads(await request.read()) == operations


async def test_no_server_no_time_and_a_cut_are_unavailable(api: Api, server: Any) -> None:
    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async def cut(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Length": "100"})
        await reply.prepare(request)
        await reply.write(b"{")
        assert request.transport is not None
        request.transport.close()
        return reply

    server.answer = slow
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=f"{server.url} does not answer: no answer in time"):
        await api.request("GET", "/x", timeout=0.1)
    assert time.monotonic() - begun < 25
    server.answer = cut
    with pytest.raises(Unavailable, match="does not answer"):
        await api.request("GET", "/x")
    await server.stop()
    with pytest.raises(Unavailable, match=r"does not answer.*Connect"):
        await api.request("GET", "/x")


def listing(request: web.Request, names: list[str], page: int) -> web.Response:
    """One page, as the API server makes them."""
    start = int(request.query.get("continue", 0))
    items = [{"metadata": {"name": name}} for name in names[start : start + page]]
    more = {"continue": str(start + page)} if start + page < len(names) else {}
    metadata = {"resourceVersion": "42", **more}
    return web.json_response({"apiVersion": "v1", "kind": "PodList", "metadata": metadata, "items": items})


async def test_a_list_is_read_page_by_page_and_its_items_know_their_kind(api: Api, server: Any) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return listing(request, list("abcde"), int(request.query["limit"]))

    server.answer = answer
    items, version = await api.list("/pods", query={"labelSelector": "a=b"}, page=2)
    assert [item["metadata"]["name"] for item in items] == list("abcde")
    assert {(item["apiVersion"], item["kind"]) for item in items} == {("v1", "Pod")}
    assert version == "42"
    assert [request.query["labelSelector"] for request in server.requests] == ["a=b"] * 3


async def test_a_list_whose_pages_expire_is_read_at_once(api: Api, server: Any) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if "continue" in request.query:
            return web.json_response(status(410, "Expired", "too old"), status=410)
        return listing(request, list("abcde"), int(request.query.get("limit", 100)))

    server.answer = answer
    items, _ = await api.list("/pods", page=2)
    assert len(items) == 5


def streaming(server: Any, *chunks: bytes, then: asyncio.Event | None = None) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse()
        await reply.prepare(request)
        for chunk in chunks:
            await reply.write(chunk)
            await asyncio.sleep(0)
        if then is not None:
            await then.wait()
        return reply

    server.answer = answer


async def watched(api: Api, **options: Any) -> list[dict[str, Any]]:
    return [event async for event in api.watch("/pods", resource_version="7", **options)]


async def test_events_come_whole_however_they_are_cut(api: Api, server: Any) -> None:
    large = "x" * 5_000_000
    events: list[dict[str, Any]] = [
        {"type": "ADDED", "object": {"metadata": {"name": large}}},
        {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}},
    ]
    raw = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    streaming(server, raw[:10], raw[10:-5], raw[-5:])
    assert await watched(api, query={"labelSelector": "a=b"}, timeout=30) == events
    (request,) = server.requests
    assert dict(request.query) == {
        "labelSelector": "a=b", "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "7",
        "timeoutSeconds": "30",
    }  # fmt: skip


@pytest.mark.parametrize(("code", "type_"), [(410, Gone), (500, Unavailable), (403, Forbidden)])
async def test_an_error_in_the_stream_is_raised(api: Api, server: Any, code: int, type_: type[ApiError]) -> None:
    error = {"type": "ERROR", "object": status(code, "Expired", "too old resource version: 7 (9)")}
    streaming(server, json.dumps(error).encode() + b"\n")
    with pytest.raises(type_, match="too old resource version"):
        await watched(api)


async def test_a_watch_that_is_refused_is_told(api: Api, server: Any) -> None:
    server.says(status(410, "Expired", "too old"), 410)
    with pytest.raises(Gone):
        await watched(api)


async def test_a_watch_on_which_nothing_comes_is_given_up(
    api: Api, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cortex_kube.client._GRACE_SECONDS", 0.1)
    never = asyncio.Event()
    streaming(server, then=never)
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer"):
        await watched(api, timeout=0.2)
    assert 0.2 < time.monotonic() - begun < 25
    never.set()
