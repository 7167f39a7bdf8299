"""A real pod: what it answers, what it refuses, and that nothing acknowledged is lost, whatever dies."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from cortex_workloads.runtime.errors import from_rpc_error
from datapunk.cortex import common_pb2, control_pb2, search_pb2
from grpc_health.v1 import health_pb2

OTHER = common_pb2.ResourceRef(namespace="default", name="other")


async def refused(call: Any) -> tuple[grpc.StatusCode, str, Any]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    told = from_rpc_error(error.value)
    return error.value.code(), told.reason, told


async def test_from_an_order_to_an_answer(pod: Any) -> None:
    code, reason, _ = await refused(pod.update(a="too early"))
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "NoRevision")
    made = await pod.ensure()
    assert control_pb2.RevisionPhase.Name(made.phase) == "REVISION_PHASE_CURRENT"
    assert (await pod.ensure()).id == made.id
    new = common_pb2.Document(id="whales", title="On whales", content="Whales sing. They live in the sea. " * 20)
    new.meta.update({"year": 2020, "tags": ["sea"]})
    other = common_pb2.Document(id="ships", content="Ships carry goods over the ocean.")
    done = await pod.haystack.UpdateIndex(search_pb2.UpdateRequest(index=pod.ref, documents=[new, other]))
    assert (done.written, done.waiting) == (2, 2)
    await pod.embedded(2)
    result = await pod.search("which animals make music?", top_k=1)
    (hit,) = result.hits
    assert (hit.id, hit.title, dict(hit.meta)["year"]) == ("whales", "On whales", 2020)
    assert hit.passage == new.content[hit.passage_start : hit.passage_end]
    assert (hit.vector_rank, hit.HasField("text_rank")) == (1, False)
    assert (result.mode, result.revision) == (common_pb2.SEARCH_MODE_HYBRID, made.id)
    assert (result.coverage.documents, result.coverage.embedded) == (2, 2)
    request = search_pb2.SearchRequest(index=pod.ref, query="sea ocean")
    request.filter.update({"field": "meta.year", "operator": ">=", "value": 2020})
    assert [hit.id for hit in (await pod.haystack.Search(request)).result.hits] == ["whales"]
    described = await pod.describe()
    assert (described.documents, described.current_revision, described.lake_read) == (2, made.id, True)
    assert (described.revisions[0].documents, described.revisions[0].chunks) == (2, described.revisions[0].chunks)


async def test_bad_input_is_refused_by_name_and_nothing_is_written(pod: Any) -> None:
    await pod.ensure()
    invalid, precondition = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
    for arguments, field in (
        ({"query": ""}, "query"),
        ({"query": " \n"}, "query"),
        ({"query": "x" * 8193}, "query"),
        ({"query": "x" * 1_000_000}, "query"),
        ({"query": "a\0"}, "query"),
        ({"query": "a", "top_k": -1}, "top_k"),
        ({"query": "a", "top_k": 1001}, "top_k"),
        ({"query": "a", "mode": 9}, "mode"),
    ):
        code, _, told = await refused(pod.search(**arguments))
        assert (code, [name for name, _ in told.violations]) == (invalid, [field])
    assert (await refused(pod.search("a", revision="0123456789")))[:2] == (
        grpc.StatusCode.NOT_FOUND,
        "RevisionNotFound",
    )
    request = search_pb2.SearchRequest(index=pod.ref, query="a")
    request.filter.update({"field": "meta.x", "operator": "like", "value": 1})
    _, _, told = await refused(pod.haystack.Search(request))
    assert [name for name, _ in told.violations] == ["filter.operator"]
    documents = [common_pb2.Document(id="fine", content="text"), common_pb2.Document(id="", content="a\0")]
    update = search_pb2.UpdateRequest(index=pod.ref, documents=documents)
    code, _, told = await refused(pod.haystack.UpdateIndex(update))
    assert (code, sorted(name for name, _ in told.violations)) == (invalid, ["documents[1].content", "documents[1].id"])
    for call in (
        pod.haystack.Search(search_pb2.SearchRequest(index=OTHER, query="a")),
        pod.haystack.UpdateIndex(search_pb2.UpdateRequest(index=OTHER)),
        pod.control.Describe(control_pb2.DescribeRequest(resource=OTHER)),
        pod.control.Command(control_pb2.CommandRequest(resource=OTHER)),
    ):
        assert (await refused(call))[:2] == (precondition, "WrongResource")
    order = control_pb2.CommandRequest(resource=pod.ref)
    order.ensure_revision.id = "0123456789"
    order.ensure_revision.definition.update({"language": "English"})
    code, _, told = await refused(pod.control.Command(order))
    assert (code, [name for name, _ in told.violations]) == (invalid, ["ensure_revision.id"])
    code, _, _ = await refused(pod.control.Command(control_pb2.CommandRequest(resource=pod.ref)))
    assert code == grpc.StatusCode.UNIMPLEMENTED
    assert (await pod.describe()).documents == 0


async def test_what_was_acknowledged_survives_kill_9_and_is_embedded_once(pod: Any, lake_dsn: str) -> None:
    await pod.ensure(chunking={"splitLength": 1, "splitOverlap": 0})
    acknowledged = 0
    for start in range(0, 60, 20):
        done = await pod.update(**{f"d{n}": f"Text of number {n}. Second sentence." for n in range(start, start + 20)})
        acknowledged += done.written
    pod.process.kill()
    pod.process.wait()
    pod.start()
    await pod.ready()
    described = await pod.describe()
    assert described.documents == acknowledged == 60
    await pod.embedded(60)
    with psycopg.connect(lake_dsn) as lake:
        chunks = lake.execute("SELECT document_id, count(*) FROM chunks_1 GROUP BY 1 HAVING count(*) = 2").fetchall()
    assert len(chunks) == 60


async def test_a_job_builds_a_revision_and_goes_on_after_kill_9(pod: Any) -> None:
    await pod.ensure()
    await pod.update(**{f"d{n}": f"Text of number {n}. " * 30 for n in range(40)})
    await pod.embedded(40)
    built = await pod.ensure(chunking={"splitLength": 2, "splitOverlap": 1})
    killed = pod.run("cortex_workloads.search.ingest", CORTEX_REVISION=built.id)
    while not (await pod.describe()).revisions[0].documents:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.01)
    killed.kill()
    killed.wait()
    job = pod.run("cortex_workloads.search.ingest", CORTEX_REVISION=built.id, CORTEX_EMBEDDING_THREADS="2")
    assert await asyncio.to_thread(job.wait, 90) == 0
    described = await pod.describe()
    assert described.current_revision == built.id
    assert {revision.documents for revision in described.revisions} == {40}


async def test_a_lake_that_dies_is_an_error_that_passes(
    own_postgres: Callable[..., Any], tmp_path: Path, request: Any
) -> None:
    from_conftest = request.getfixturevalue("pods")
    server = own_postgres(durable=True)
    pod = from_conftest(server.url, tmp_path / "pod.log")
    await pod.ready()
    await pod.ensure()
    await pod.update(a="acknowledged")
    server.kill()
    code, reason, _ = await refused(pod.search("acknowledged"))
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "LakeUnreachable")
    described = await pod.describe()
    assert not described.lake_read
    missing = {one.name: one.reason for one in described.dependencies if not one.reachable}
    assert missing == {"Lake": "LakeUnreachable", "State": "StateUnreachable"}  # this pod was given no state at all
    assert (await pod.health.Check(health_pb2.HealthCheckRequest(service=""))).status == 1
    server.start()
    async with asyncio.timeout(60):
        while True:
            try:
                found = await pod.search("acknowledged")
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
    assert [hit.id for hit in found.hits] == ["a"]
    await pod.embedded(1)
    await pod.close()


async def test_sigterm_ends_it_in_order(pod: Any) -> None:
    await pod.ensure()
    pod.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(pod.process.wait, 60) == 0


@pytest.mark.parametrize("module", ["cortex_workloads.search", "cortex_workloads.search.ingest"])
def test_a_wrong_address_of_the_lake_is_one_clear_line(module: str, request: Any, tmp_path: Path) -> None:
    run = request.getfixturevalue("release")
    ended = run(module, CORTEX_LAKE_DSN="nonsense", CORTEX_REVISION="0123456789")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "CORTEX_LAKE_DSN" in line
    assert "nonsense" not in line
