"""Nodes whose results are kept: what they are asked by, who waits for whom, and what is said of it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from cortex_workloads.graph.failures import RunFailure
from cortex_workloads.runtime.errors import FailedPrecondition, Unavailable
from cortex_workloads.runtime.telemetry import REGISTRY

SCHEMA = {"input": {"schema": {"type": "object", "properties": {"q": {}, "other": {}}}}}
EXTRACT = {"question": "state.q", "documents": "[{'id': '1', 'content': 'whales weigh much'}]"}


def search(name: str = "find", query: str = "state.q", **more: Any) -> dict[str, Any]:
    node = {"name": name, "type": "Search", "search": {"index": "papers", "query": query, "into": name}}
    return {**node, "cache": {"ttl": "10m"}, **more}


def compiled(bench: Any, *nodes: dict[str, Any], **spec: Any) -> Any:
    edges = [edge for node in nodes for edge in (f"START>{node['name']}", f"{node['name']}>END")]
    return bench.compile([*nodes], edges, **SCHEMA, **spec)


def messages(bench: Any) -> list[str]:
    steps = [event.step for event in bench.events if event.WhichOneof("event") == "step"]
    return [step.message for step in steps if step.phase != step.PHASE_STARTED]


async def test_what_reads_the_same_is_done_once_and_says_so(bench: Any) -> None:
    bench.index.answers = [[{"id": "1", "score": 0.5, "meta": {"n": 1}}]]
    workflow = compiled(bench, search())
    first = await bench.run(workflow, {"q": "whales", "other": 1})
    again = await bench.run(workflow, {"q": "whales", "other": 2})
    assert first["find"] == again["find"] == [{"id": "1", "score": 0.5, "meta": {"n": 1}}]
    assert len(bench.index.asked) == 1
    said = messages(bench)
    assert said[0] == ""
    assert re.fullmatch(r"from the cache, \d+ s old", said[1])


async def test_another_question_another_node_and_another_revision_are_asked_anew(bench: Any) -> None:
    workflow = compiled(bench, search("a"), search("b"))
    await bench.run(workflow, {"q": "whales"})
    await bench.run(workflow, {"q": "ships"})
    assert len(bench.index.asked) == 4
    again = type(bench)()
    again.index, again.tools = bench.index, bench.tools
    await again.run(bench.compile_as("another", [search("a")], ["START>a", "a>END"], **SCHEMA), {"q": "whales"})
    assert len(bench.index.asked) == 5


async def test_without_cache_nothing_is_kept(bench: Any) -> None:
    node = search()
    del node["cache"]
    for _ in range(2):
        await bench.run(compiled(bench, node), {"q": "whales"})
    assert len(bench.index.asked) == 2


async def test_an_extract_embeds_once(bench: Any) -> None:
    workflow = compiled(bench, {"name": "x", "type": "Extract", "extract": EXTRACT, "cache": {"ttl": "10m"}})
    assert await bench.run(workflow, {"q": "whales"}) == await bench.run(workflow, {"q": "whales"})
    await bench.run(workflow, {"q": "ships"})
    assert len(bench.words.calls) == 2


async def test_runs_that_ask_the_same_at_once_ask_once_and_one_that_ends_takes_nobody_along(bench: Any) -> None:
    bench.index.gate.clear()
    bench.index.answers = [[{"id": "1"}]]
    workflow = compiled(bench, search())
    first = asyncio.create_task(bench.run(workflow, {"q": "whales"}))
    await bench.asked(1)
    runs = [asyncio.create_task(bench.run(workflow, {"q": "whales"})) for _ in range(3)]
    labels = {"cache": "test_results", "level": "memory", "result": "joined"}
    before = REGISTRY.get_sample_value("cortex_cache_requests_total", labels) or 0.0
    async with asyncio.timeout(30):
        while (REGISTRY.get_sample_value("cortex_cache_requests_total", labels) or 0.0) < before + 3:  # noqa: ASYNC110 - each turn of the loop is what is waited for
            await asyncio.sleep(0)
    # As its deadline would.
    first.cancel()
    await asyncio.wait((first,))
    assert first.cancelled()
    bench.index.gate.set()
    assert [(await run)["find"] for run in runs] == [[{"id": "1"}]] * 3
    assert len(bench.index.asked) == 1


async def test_a_failure_is_not_kept_and_each_try_asks_anew(bench: Any) -> None:
    bench.index.answers = [Unavailable("the index rests"), [{"id": "1"}]]
    workflow = compiled(bench, search(retry={"attempts": 2}))
    assert (await bench.run(workflow, {"q": "whales"}))["find"] == [{"id": "1"}]
    assert len(bench.index.asked) == 2


async def test_a_node_with_its_timeout_is_not_longer_for_a_cache(bench: Any) -> None:
    bench.index.gate.clear()
    with pytest.raises(RunFailure, match="did not end within its timeout of 50ms"):
        await bench.run(compiled(bench, search(timeout="50ms")), {"q": "whales"})


async def test_an_index_that_may_not_be_asked_any_more_is_not_given_from_the_cache(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = compiled(bench, search())
    await bench.run(workflow, {"q": "whales"})

    def refuse(index: str) -> str:
        raise FailedPrecondition("this pod knows no address of it", reason="IndexUnknown")

    monkeypatch.setattr(bench.index, "target", refuse)
    with pytest.raises(RunFailure, match="knows no address"):
        await bench.run(workflow, {"q": "whales"})
