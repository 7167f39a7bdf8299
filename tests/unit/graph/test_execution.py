"""Shapes of graphs, and how runs end: joins, fan-out, loops, limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from cortex_workloads.graph.failures import Code, RunFailure
from cortex_workloads.runtime.errors import DeadlineExceeded, NotFound, Overloaded, Unavailable
from cortex_workloads.runtime.telemetry import REGISTRY

Build = Callable[..., dict[str, Any]]


def search(name: str, into: str = "documents", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "Search", "search": {"index": "papers", "query": "'q'", "into": into}, **more}


async def test_a_join_runs_once_after_branches_of_different_length(bench: Any, sets: Build) -> None:
    nodes = [sets("fork", n="0"), sets("a", a="'a'"), sets("b", b="'b'"), sets("c", c="state.b + 'c'")]
    nodes.append(sets("join", all="state.a + state.c", n="state.n + 1"))
    edges = ["START>fork", "fork>a", "fork>b", "b>c", "a>join", "c>join", "join>END"]
    state = await bench.run(bench.compile(nodes, edges))
    assert state == {"n": 1, "a": "a", "b": "b", "c": "bc", "all": "abc"}
    assert sorted(bench.order()[1:3]) == ["a", "b"]
    assert bench.order()[3:] == ["c", "join"]
    assert bench.executions[0].steps == 4


async def test_a_join_behind_a_route_does_not_wait_for_the_other_branch(bench: Any, sets: Build, routes: Build) -> None:
    nodes = [sets("fork", n="0"), sets("a", a="1"), routes("r", "c", {"state.n == 0": "b"}), sets("b", b="1")]
    nodes += [sets("c", c="1"), sets("join", done="has(state.a) && has(state.b)")]
    edges = ["START>fork", "fork>a", "fork>r", "a>join", "b>join", "c>join", "join>END"]
    state = await bench.run(bench.compile(nodes, edges))
    assert state == {"n": 0, "a": 1, "b": 1, "done": True}
    assert bench.order().count("join") == 1


async def test_a_loop_through_a_route_ends_and_joins_anew_each_time(bench: Any, sets: Build, routes: Build) -> None:
    nodes = [sets("fork", n="has(state.n) ? state.n + 1 : 1"), sets("a", a="state.n"), sets("b", b="state.n")]
    nodes += [
        sets("c", c="state.b"),
        sets("join", sums="state.a + state.c"),
        routes("again", "END", {"state.n < 3": "fork"}),
    ]
    edges = ["START>fork", "fork>a", "fork>b", "b>c", "a>join", "c>join", "join>again"]
    state = await bench.run(bench.compile(nodes, edges))
    assert state["sums"] == 6
    assert bench.order().count("join") == 3


async def test_branches_of_a_fan_out_run_at_the_same_time(bench: Any) -> None:
    bench.index.gate.clear()
    workflow = bench.compile([search("a", "x"), search("b", "y")], ["START>a", "START>b", "a>END", "b>END"])
    running = asyncio.create_task(bench.run(workflow))
    await bench.asked(2)
    bench.index.gate.set()
    assert await running == {"x": [], "y": []}


async def test_parallelism_bounds_nodes_that_run_at_the_same_time(bench: Any) -> None:
    bench.index.gate.clear()
    nodes = [search("a", "x"), search("b", "y")]
    workflow = bench.compile(nodes, ["START>a", "START>b", "a>END", "b>END"], limits={"parallelism": 1})
    running = asyncio.create_task(bench.run(workflow))
    await bench.asked(1)
    for _ in range(50):
        await asyncio.sleep(0)
    asked_before = len(bench.index.asked)
    bench.index.gate.set()
    await running
    assert (asked_before, len(bench.index.asked)) == (1, 2)


async def test_two_nodes_that_write_one_key_in_one_step_are_named(bench: Any, sets: Build) -> None:
    workflow = bench.compile([sets("a", x="1"), sets("b", x="2")], ["START>a", "START>b", "a>END", "b>END"])
    with pytest.raises(RunFailure, match=r"nodes 'a' and 'b' wrote state\.x in the same super-step") as failed:
        await bench.run(workflow)
    assert failed.value.code is Code.NODE_FAILED


@pytest.mark.parametrize(("steps", "ends"), [(3, True), (2, False)])
async def test_steps_are_super_steps_and_the_last_one_counts(bench: Any, sets: Build, steps: int, ends: bool) -> None:
    nodes = [sets("a", x="1"), sets("b", y="1"), sets("c", z="1")]
    workflow = bench.compile(nodes, ["START>a", "a>b", "b>c", "c>END"], limits={"steps": steps})
    if ends:
        assert await bench.run(workflow) == {"x": 1, "y": 1, "z": 1}
    else:
        with pytest.raises(RunFailure, match=r"limits\.steps \(2") as failed:
            await bench.run(workflow)
        assert failed.value.code is Code.STEPS_EXCEEDED
        assert bench.order() == ["a", "b"]


async def test_a_state_that_grows_too_large_ends_the_run(bench: Any, sets: Build, routes: Build) -> None:
    nodes = [sets("grow", text="state.text + state.text"), routes("again", "grow", {"false": "END"})]
    edges = ["START>grow", "grow>again"]
    with pytest.raises(RunFailure, match=r"more than limits\.stateBytes \(1,024\)") as failed:
        await bench.run(bench.compile(nodes, edges, limits={"stateBytes": "1Ki"}), {"text": "0123456789"})
    assert failed.value.code is Code.STATE_TOO_LARGE


async def test_the_whole_run_has_a_deadline(bench: Any) -> None:
    await bench.run(bench.compile([search("a")], ["START>a", "a>END"], limits={"duration": "90s"}))
    assert 0 < bench.index.asked[0]["timeout"] <= 90
    bench.index.gate.clear()
    workflow = bench.compile([search("a")], ["START>a", "a>END"], limits={"duration": "50ms"})
    with pytest.raises(RunFailure, match=r"limits\.duration \(50ms\)") as failed:
        await bench.run(workflow)
    assert failed.value.code is Code.DEADLINE_EXCEEDED


async def test_a_node_has_a_timeout_of_its_own(bench: Any) -> None:
    bench.index.gate.clear()
    workflow = bench.compile([search("a", timeout="50ms")], ["START>a", "a>END"])
    with pytest.raises(RunFailure, match="node 'a' failed: it did not end within its timeout of 50ms") as failed:
        await bench.run(workflow)
    assert (failed.value.code, failed.value.node) == (Code.NODE_FAILED, "a")


@pytest.mark.parametrize(
    ("error", "attempts", "calls", "code"),
    [
        pytest.param(Unavailable("the index rests"), 2, 2, "NodeUnavailable", id="tried again"),
        pytest.param(Unavailable("the index rests"), 1, 1, "NodeUnavailable", id="not when one attempt is allowed"),
        pytest.param(Overloaded("the index is full"), 2, 2, "NodeUnavailable", id="one that is at its limit"),
        pytest.param(DeadlineExceeded("the index is slow"), 3, 1, "NodeUnavailable", id="not what had its time"),
        pytest.param(NotFound("no such index"), 3, 1, "NodeFailed", id="not what is not there"),
        pytest.param(ValueError("wrong"), 3, 1, "NodeFailed", id="not what would fail again"),
    ],
)
async def test_a_node_is_tried_again_when_what_it_needs_is_unavailable(
    bench: Any, error: Exception, attempts: int, calls: int, code: str
) -> None:
    bench.index.answers, before = [error] * attempts, _nodes_tried_again()
    workflow = bench.compile([search("a", retry={"attempts": attempts})], ["START>a", "a>END"])
    with pytest.raises(RunFailure, match=str(error)) as failed:
        await bench.run(workflow)
    assert len(bench.index.asked) == calls
    assert failed.value.code == code
    assert ("tries" in failed.value.message) is (calls > 1)
    assert _nodes_tried_again() == before + calls - 1


def _nodes_tried_again() -> float:
    return REGISTRY.get_sample_value("cortex_retries_total", {"what": "Node"}) or 0.0


async def test_events_tell_every_node_its_update_and_the_progress(bench: Any, sets: Build, routes: Build) -> None:
    nodes = [sets("a", x="1"), routes("r", "END", {"state.x == 1": "b"}), sets("b", y="2")]
    await bench.run(bench.compile(nodes, ["START>a", "a>r", "b>END"], limits={"steps": 9}))
    told = [(e.WhichOneof("event"), e.step.node or e.partial.node, e.step.step) for e in bench.events]
    assert told == [
        *(("step", "a", 1), ("step", "a", 1), ("partial", "a", 0), ("progress", "", 0)),
        *(("step", "r", 2), ("step", "r", 2), ("progress", "", 0)),
        *(("step", "b", 3), ("step", "b", 3), ("partial", "b", 0), ("progress", "", 0)),
    ]
    assert bench.events[5].step.message == "to b: state.x == 1"
    last = bench.events[-1].progress
    assert (last.nodes_completed, last.steps, last.steps_limit) == (3, 3, 9)


async def test_a_run_goes_on_after_its_last_checkpoint(bench: Any, sets: Build) -> None:
    workflow = bench.compile([sets("a", x="1"), search("b"), sets("c", z="1")], ["START>a", "a>b", "b>c", "c>END"])
    bench.index.answers = [Unavailable("the index rests"), []]
    with pytest.raises(RunFailure):
        await bench.run(workflow)
    assert await bench.run(workflow, attempts=2) == {"x": 1, "documents": [], "z": 1}
    assert bench.order() == ["a", "b", "c"]
    assert bench.executions[1].steps == 3


async def test_keys_that_the_schema_does_not_name_are_kept(bench: Any, sets: Build) -> None:
    workflow = bench.compile([sets("a", y="state.other + 1")], ["START>a", "a>END"])
    assert await bench.run(workflow, {"other": 1}) == {"other": 1, "y": 2}
