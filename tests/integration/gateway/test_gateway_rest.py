"""REST: resources, searches, errors, the descriptions of the gateway itself."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from cortex_workloads.runtime.errors import Unavailable
from cortex_workloads.runtime.resilience.policies import BreakerPolicy
from datapunk.cortex import common_pb2
from jsonschema import Draft202012Validator

SEARCH = "/v1/namespaces/default/indexes/papers/search"
JSON = {"content-type": "application/json"}


def is_problem(reply: Any, status: int, reason: str) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body = dict(reply.json())
    assert (body["status"], body["reason"]) == (status, reason)
    assert body["type"] == f"https://cortex.datapunk.io/errors/{reason}"
    assert body["traceId"] == reply.headers["x-trace-id"]
    assert body["retryable"] is ("retry-after" in reply.headers)
    return body


@pytest.fixture
async def open_for_long(worlds: Any, tmp_path: Path, state_url: str) -> AsyncIterator[Any]:
    """A gateway with one pod of the index, whose circuit stays open once it is."""
    async with AsyncExitStack() as stack:
        world = worlds(stack, tmp_path, state_url)
        await world.open(breaker=BreakerPolicy(open_seconds=600))
        await world.pod("papers-search")
        yield world


async def test_a_search_reaches_a_pod_and_comes_back_as_camel_case(papers: Any) -> None:
    documents = [{"id": "1", "title": "One", "content": "bees fly", "meta": {"year": 1999, "tags": ["a"]}}]
    await papers.http.post("/v1/namespaces/default/indexes/papers/documents", json={"documents": documents})
    reply = await papers.http.post(
        SEARCH, json={"query": "bees", "mode": "Vector", "topK": 3, "exact": True, "filter": {"field": "meta.year"}}
    )
    assert reply.status_code == 200
    assert reply.json() == {
        "hits": [
            {
                "id": "1", "title": "One", "passage": "bees fly", "score": 0.5, "passageStart": 0, "passageEnd": 0,
                "meta": {"year": 1999, "tags": ["a"]},
            }
        ],
        "revision": "0123456789",
        "mode": "Text",
        "coverage": {"documents": 1, "embedded": 1},
        "tookSeconds": 0.012,
    }  # fmt: skip
    asked = papers.haystack.searches[0]
    assert (asked.index.name, asked.top_k, asked.mode, asked.exact) == ("papers", 3, 2, True)
    assert dict(asked.filter) == {"field": "meta.year"}


async def test_what_the_caller_accepts_instead_reaches_the_pod(papers: Any) -> None:
    assert (await papers.http.post(SEARCH, json={"query": "bees", "fallbacks": ["TextOnly"]})).status_code == 200
    assert list(papers.haystack.searches[0].fallbacks) == [common_pb2.FALLBACK_TEXT_ONLY]
    reply = await papers.http.post(SEARCH, json={"query": "bees", "fallbacks": ["TextOnly", "Guess"]})
    assert [error["field"] for error in is_problem(reply, 422, "InvalidInput")["errors"]] == ["/fallbacks/1"]


async def test_the_callers_trace_goes_through_to_the_pod(papers: Any) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    reply = await papers.http.post(
        SEARCH, json={"query": "x"}, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    )
    assert reply.headers["x-trace-id"] == trace
    assert reply.headers["traceparent"].split("-")[1] == trace
    assert papers.haystack.traceparents[0].split("-")[1] == trace


async def test_every_violation_is_named(papers: Any) -> None:
    reply = await papers.http.post(SEARCH, json={"query": "", "topK": 1001, "mode": "Psychic", "moder": 1})
    errors = is_problem(reply, 422, "InvalidInput")["errors"]
    assert [error["field"] for error in errors] == ["/query", "/mode", "/topK", "/moder"]
    assert [error["message"] for error in errors][2:] == [
        "is at most 1000, found 1001", "there is no such field; did you mean mode?",
    ]  # fmt: skip
    assert papers.haystack.searches == []


@pytest.mark.parametrize(
    ("content", "headers", "status", "reason", "says"),
    [
        (b'{"query": "x"', JSON, 400, "NotJSON", "column 14"),
        (b'{\n"query": x}', JSON, 400, "NotJSON", "line 2"),
        (b'{"query": "\xff"}', JSON, 400, "NotUTF8", "position 11"),
        (b"[]", JSON, 422, "InvalidInput", "the body"),
        (b"", JSON, 400, "NotJSON", "not JSON"),
        (b'{"query": "a\\u0000"}', JSON, 422, "InvalidInput", "U+0000"),
        (b'{"query": "x", "filter": ' + b'{"a":' * 50 + b"1" + b"}" * 51, JSON, 422, "TooDeep", "32 levels"),
        (b"query=x", {"content-type": "application/x-www-form-urlencoded"}, 415, "UnsupportedMediaType", "form"),
        (b'{"query": "x"}', {}, 415, "UnsupportedMediaType", "missing"),
        (b'{"query": "x"}', {**JSON, "sec-fetch-site": "cross-site"}, 403, "CrossSite", "another site"),
        (json.dumps({"query": "x" * 9000}).encode(), JSON, 422, "InvalidInput", "8192"),
        (json.dumps({"query": "x" * 1_000_000}).encode(), JSON, 413, "TooLarge", "262,144"),
    ],
)
async def test_bad_requests_are_told_apart(
    papers: Any, content: bytes, headers: dict[str, str], status: int, reason: str, says: str
) -> None:
    reply = await papers.http.post(SEARCH, content=content, headers=headers)
    body = is_problem(reply, status, reason)
    assert says in body["detail"]
    assert papers.haystack.searches == []


async def test_a_body_without_a_length_is_bounded_too(papers: Any) -> None:
    async def long() -> Any:
        yield b'{"query": "'
        for _ in range(200):
            yield b"x" * 65536

    reply = await papers.http.post(SEARCH, content=long(), headers=JSON)
    body = is_problem(reply, 413, "TooLarge")
    read = int(body["detail"].split()[3].replace(",", ""))
    assert read < 2 * 262_144, "the rest is not kept"


async def test_a_body_of_a_declared_size_is_refused_before_it_is_sent(papers: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", papers.ports["http"])
    head = ("Host: localhost", "Content-Type: application/json", "Content-Length: 99999999", "", "")
    writer.write("\r\n".join((f"POST {SEARCH} HTTP/1.1", *head)).encode())
    status = await asyncio.wait_for(reader.readline(), 30)
    writer.close()
    assert status == b"HTTP/1.1 413 Request Entity Too Large\r\n"


async def test_an_unknown_index_lists_near_names(papers: Any) -> None:
    reply = await papers.http.post(SEARCH.replace("papers", "paper"), json={"query": "x"})
    assert "default/papers" in is_problem(reply, 404, "IndexNotFound")["remedy"]


async def test_an_index_without_pods_says_what_its_condition_says(world: Any) -> None:
    ready = {
        "type": "Ready", "status": "False", "reason": "SecretMissing", "message": "Secret cortex-lake is not there",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    world.items = [{**world.items[0], "status": {"conditions": [ready]}}]
    world.write()
    reply = await world.http.post(SEARCH, json={"query": "x"})
    body = is_problem(reply, 503, "SecretMissing")
    assert "Secret cortex-lake is not there" in body["detail"]
    assert int(reply.headers["retry-after"]) >= 1


async def test_an_error_of_a_pod_keeps_its_reason_and_remedy(papers: Any) -> None:
    papers.haystack.fail = Unavailable("the Lake is gone", reason="LakeUnreachable", remedy="wait", retry_after=7)
    reply = await papers.http.post(SEARCH, json={"query": "x"})
    assert is_problem(reply, 503, "LakeUnreachable")["remedy"] == "wait"
    assert reply.headers["retry-after"] == "7"


async def test_a_defect_of_a_pod_leaks_nothing(papers: Any) -> None:
    papers.haystack.fail = RuntimeError("password=hunter2")
    reply = await papers.http.post(SEARCH, json={"query": "x"})
    body = is_problem(reply, 500, "Internal")
    assert "hunter2" not in reply.text
    assert reply.headers["x-trace-id"] in body["remedy"]


async def test_a_pod_that_died_is_replaced_under_the_same_gateway(papers: Any) -> None:
    assert (await papers.http.post(SEARCH, json={"query": "x"})).status_code == 200
    await papers.lose(papers.pods[0])
    await papers.pod("papers-search")
    assert (await papers.http.post(SEARCH, json={"query": "x"})).status_code == 200


async def test_paths_and_methods_that_do_not_exist_are_problems(world: Any) -> None:
    is_problem(await world.http.get("/v2/indexes"), 404, "NoSuchPath")
    reply = await world.http.put("/v1/indexes")
    assert "GET" in is_problem(reply, 405, "MethodNotAllowed")["remedy"]


async def test_another_host_name_is_refused(world: Any) -> None:
    is_problem(await world.http.get("/v1/indexes", headers={"host": "evil.example:8001"}), 403, "HostNotAllowed")
    for host in ("localhost", "127.0.0.1:1", "[::1]", "[::1]:8001"):
        assert (await world.http.get("/v1/indexes", headers={"host": host})).status_code == 200


async def test_lists_are_of_all_namespaces_or_of_one(world: Any) -> None:
    for path in ("/v1/indexes", "/v1/namespaces/default/indexes"):
        assert [item["metadata"]["name"] for item in (await world.http.get(path)).json()["items"]] == ["papers"]
    assert (await world.http.get("/v1/namespaces/other/indexes")).json() == {"items": []}
    is_problem(await world.http.get("/v1/namespaces/default/workflows/none"), 404, "WorkflowNotFound")


async def test_show_gives_the_manifest_and_its_status_but_no_annotations(world: Any) -> None:
    metadata = {"name": "papers", "uid": "u1", "annotations": {"note": "secret"}, "managedFields": [{}]}
    world.items[0] = {**world.items[0], "metadata": metadata, "status": {"documents": 7}}
    world.write()
    shown: dict[str, Any] = {"metadata": {}}
    async with asyncio.timeout(30):
        while "uid" not in shown["metadata"]:
            shown = (await world.http.get("/v1/namespaces/default/indexes/papers")).json()
    assert shown["metadata"] == {"name": "papers", "uid": "u1"}
    assert shown["status"] == {"documents": 7}


async def test_healthz_shows_each_part_with_its_reason(world: Any) -> None:
    body = (await world.http.get("/healthz")).json()
    assert body["status"] == "Degraded"
    assert body["parts"]["state"] == {"ok": True}
    assert body["parts"]["CortexIndex default/papers"]["reason"] == "NotReconciled"


async def test_healthz_shows_a_circuit_that_is_open(open_for_long: Any) -> None:
    papers = open_for_long
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "x"}
    papers.items = [{**papers.items[0], "status": {"conditions": [ready]}}]
    papers.write()
    papers.haystack.fail = Unavailable("the Lake is gone", reason="LakeUnreachable")
    asked = [papers.http.post(SEARCH, json={"query": "x"}) for _ in range(10)]
    assert {reply.status_code for reply in await asyncio.gather(*asked)} == {503}
    reply = await papers.http.post(SEARCH, json={"query": "x"})
    assert "the Lake is gone" in is_problem(reply, 503, "CircuitOpen")["detail"]
    assert 500 <= int(reply.headers["retry-after"]) <= 600
    part = (await papers.http.get("/healthz")).json()["parts"]["CortexIndex default/papers"]
    assert (part["ok"], part["reason"], part["circuits"]) == (False, "CircuitOpen", {"grpc": "Open"})


async def test_the_openapi_description_is_valid_and_whole(world: Any) -> None:
    described = (await world.http.get("/openapi.json")).json()
    schemas = described["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    references = set(part.split('"')[0] for part in json.dumps(described).split("#/components/schemas/")[1:])
    assert references <= set(schemas)
    assert "HTTPValidationError" not in json.dumps(described["paths"])
    for kind in ("indexes", "workflows"):
        shown = described["paths"][f"/v1/namespaces/{{namespace}}/{kind}/{{name}}"]["get"]["responses"]
        assert shown["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Resource")
        assert "application/problem+json" in shown["422"]["content"]
    search = described["paths"]["/v1/namespaces/{namespace}/indexes/{name}/search"]["post"]
    assert search["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/Search")
    assert set(search["responses"]) >= {"200", "404", "413", "422", "503"}
    Draft202012Validator(schemas["Search"] | {"components": {"schemas": schemas}}).validate(
        schemas["Search"]["examples"][0]
    )


async def test_the_docs_page_needs_no_network(world: Any) -> None:
    reply = await world.http.get("/docs")
    assert reply.headers["content-type"].startswith("text/html")
    assert "http://" not in reply.text
    assert "https://" not in reply.text
    assert "connect-src 'self'" in reply.headers["content-security-policy"]
    assert (await world.http.get("/")).headers["location"] == "/docs"


async def metrics(papers: Any) -> str:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        return (await client.get(f"http://127.0.0.1:{papers.ports['metrics']}/metrics")).text


async def test_errors_are_counted_once_by_family_and_type(papers: Any) -> None:
    async def told() -> float:
        line = r'^cortex_errors_total{family="InvalidInput",type="Malformed"} (.+)$'
        found = re.search(line, await metrics(papers), re.MULTILINE)
        return float(found[1]) if found else 0.0

    before = await told()
    body = is_problem(await papers.http.post(SEARCH, content=b"{", headers=JSON), 400, "NotJSON")
    assert (body["family"], body["retryable"]) == ("InvalidInput", False)
    assert await told() == before + 1


async def test_metrics_name_routes_never_paths(papers: Any) -> None:
    await papers.http.post(SEARCH, json={"query": "x"})
    await papers.http.get("/somewhere/private")
    text = await metrics(papers)
    assert 'route="/v1/namespaces/{namespace}/indexes/{name}/search"' in text
    assert "private" not in text
    assert "process_resident_memory_bytes" in text
