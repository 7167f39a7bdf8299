"""What the operator is told, and what it orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cortex_kinds.revision import revision_id
from cortex_workloads.graph import control
from cortex_workloads.graph.input import to_struct
from cortex_workloads.runtime.errors import InvalidInput, Unavailable
from datapunk.cortex import common_pb2, control_pb2

Define = Callable[..., dict[str, Any]]
WORKFLOW = common_pb2.ResourceRef(namespace="default", name="helpdesk")


async def describe(client: Any) -> Any:
    return await client.control.Describe(control_pb2.DescribeRequest(resource=WORKFLOW))


async def test_the_first_revision_is_current_and_a_later_one_takes_over(client: Any, define: Define) -> None:
    first, second = define(), define({"limits": {"steps": 7}})
    assert (await client.ensure(first)).phase == control_pb2.REVISION_PHASE_CURRENT
    assert (await client.ensure(second)).phase == control_pb2.REVISION_PHASE_CURRENT
    told = await describe(client)
    assert told.lake_read
    assert told.current_revision == revision_id(second)
    assert {r.id: r.phase for r in told.revisions} == {
        revision_id(first): control_pb2.REVISION_PHASE_RETAINED,
        revision_id(second): control_pb2.REVISION_PHASE_CURRENT,
    }
    assert (await client.ensure(first)).phase == control_pb2.REVISION_PHASE_CURRENT


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param({"limits": {"stateBytes": "1Gi"}}, "limits.stateBytes", id="too large a state"),
        pytest.param({"edges": [{"from": "START", "to": "nowhere"}]}, "nowhere", id="an edge to nowhere"),
        pytest.param({"nodes": 7}, "spec.nodes", id="no nodes"),
    ],
)
async def test_a_definition_that_cannot_run_fails_and_the_current_one_answers(
    client: Any, define: Define, spec: dict[str, Any], said: str
) -> None:
    good = define()
    wrong = {**good, **spec}
    refused = await client.ensure(wrong)
    assert refused.phase == control_pb2.REVISION_PHASE_FAILED
    assert said in refused.message
    assert (await describe(client)).current_revision == ""
    await client.ensure(good)
    assert (await client.ensure(wrong)).phase == control_pb2.REVISION_PHASE_FAILED
    assert (await describe(client)).current_revision == revision_id(good)


async def test_an_id_that_does_not_match_is_refused(client: Any, define: Define) -> None:
    from cortex_workloads.runtime.errors import from_rpc_error
    from grpc.aio import AioRpcError

    verb = control_pb2.EnsureRevision(id="0123456789", definition=to_struct(define()))
    with pytest.raises(AioRpcError) as refused:
        await client.control.Command(control_pb2.CommandRequest(resource=WORKFLOW, ensure_revision=verb))
    assert isinstance(from_rpc_error(refused.value), InvalidInput)


async def test_an_index_that_is_up_but_not_asked_any_more_is_named(
    harness: Any, index: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_CHECK_SECONDS", 30.0)
    client = await harness.start(breaker={"open_seconds": 600})
    await harness.ready(harness.pods[0])
    searcher = harness.pods[0].library._tools.searcher
    index.failures = [Unavailable("the Lake is gone", reason="LakeUnreachable") for _ in range(10)]
    for _ in range(10):
        with pytest.raises(Unavailable):
            await searcher.search("papers", "x", top_k=None, mode=None, timeout=30)
    told = {d.name: d for d in (await describe(client)).dependencies}["papers"]
    assert (told.reachable, told.reason) == (False, "CircuitOpen")
    assert "CortexIndex default/papers is not asked for now" in told.message


async def test_dependencies_are_asked(client: Any, harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    other = await harness.start(indexes={"gone": "dns:///gone-search-headless.default.svc:50052"}, state_url="")
    with monkeypatch.context() as patient:
        patient.setattr(control, "_CHECK_SECONDS", 30.0)
        assert {d.name: d.reachable for d in (await describe(client)).dependencies} == {
            **{"Lake": True, "State": True, "Model": True},
            "papers": True,
        }
    told = {d.name: d for d in (await describe(other)).dependencies}
    assert (told["gone"].reachable, told["gone"].reason) == (False, "IndexNotFound")
    assert (told["State"].reachable, told["State"].reason) == (False, "StateUnreachable")
