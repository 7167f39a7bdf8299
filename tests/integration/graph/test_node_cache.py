"""Results of nodes that say `cache`: over pods and the shared state, until they go with the workflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
from cortex_workloads.graph import results
from cortex_workloads.graph.drop import drop_workflow
from cortex_workloads.runtime.settings import DropSettings
from google.protobuf.json_format import MessageToDict

Define = Callable[..., dict[str, Any]]
QUESTION = {"question": "How heavy is a blue whale?"}
CACHED = {"spec__nodes__0__cache": {"ttl": "10m"}, "spec__nodes__2__cache": {"ttl": "1h", "staleWhileRevalidate": "1m"}}


def output(events: list[Any]) -> dict[str, Any]:
    assert events[-1].WhichOneof("event") == "completed", events[-1]
    return MessageToDict(events[-1].completed.output)


def said(events: list[Any], node: str) -> str:
    return [event.step.message for event in events if event.step.node == node][-1].partition(",")[0]


async def test_another_pod_finds_what_one_wrote(harness: Any, client: Any, define: Define, index: Any) -> None:
    await client.ensure(define(**CACHED))
    first = await client.run(QUESTION)
    other = await harness.start(pod="other")
    await harness.ready(harness.pods[1])
    again = await other.run(QUESTION)
    assert output(again) == output(first)
    assert len(index.requests) == 1
    assert [said(events, node) for events in (first, again) for node in ("retrieve", "answer")] == [
        *("", ""),
        *("from the cache", "from the cache"),
    ]
    await other.run({"question": "How is bread baked?"})
    assert len(index.requests) == 2


async def test_without_a_shared_state_each_pod_keeps_its_own(harness: Any, define: Define, index: Any) -> None:
    clients = [await harness.start(pod=name, state_url="redis://127.0.0.1:1/0") for name in "ab"]
    for pod in harness.pods:
        await harness.ready(pod)
    await clients[0].ensure(define(**CACHED))
    for client in clients * 2:
        output(await client.run(QUESTION))
    assert len(index.requests) == 2


async def test_kept_results_go_with_the_workflow(
    harness: Any, client: Any, define: Define, lake_dsn: str, state_url: str
) -> None:
    await client.ensure(define(**CACHED))
    await client.run(QUESTION)
    await harness.close()
    with redis.Redis.from_url(state_url) as state:
        kept = state.keys(results.keys("default", "helpdesk") + "*")
        assert sorted(key.decode().split(":")[5] for key in kept) == ["answer", "retrieve"]
        assert sorted(round(state.ttl(key) / 600) for key in kept) in ([1, 6], [1, 5])
        neighbour = results.keys("default", "helpdesk2") + "1"
        state.set(neighbour, b"kept")
        await drop_workflow(
            DropSettings(lake_dsn=lake_dsn, state_url=state_url, resource_namespace="default", resource_name="helpdesk")
        )
        assert state.keys("*") == [neighbour.encode()]
