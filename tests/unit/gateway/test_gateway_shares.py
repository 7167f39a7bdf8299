"""Of the gateway's places one resource gets half, also of those that it waits for."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest
from cortex_workloads.gateway.api import Api
from cortex_workloads.gateway.limits import Limits
from cortex_workloads.runtime.errors import Overloaded
from cortex_workloads.runtime.resilience.policies import GatewayLimits, GatewaySearchLimit
from datapunk.cortex import api_pb2, common_pb2

PAPERS, BOOKS, NEWS = (f"default/indexes/{name}" for name in ("papers", "books", "news"))


class Calls:
    """Calls to a gateway of four places and a line of eight, which hold what they get until `ended` is set."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.limits = Limits(GatewayLimits(search=GatewaySearchLimit(concurrent=4, waiting=8, wait_seconds=60)))

    def begin(self, resource: str, left: float | None = None) -> asyncio.Task[None]:
        return asyncio.create_task(self._call(resource, left))

    async def _call(self, resource: str, left: float | None) -> None:
        async with self.limits.place("search", resource, left):
            await self.ended.wait()


async def test_calls_that_wait_together_do_not_get_more_than_their_share() -> None:
    calls = Calls()
    first = [calls.begin(one) for one in (BOOKS, BOOKS, NEWS, NEWS)]
    papers = [calls.begin(PAPERS) for _ in range(5)]
    await asyncio.sleep(0.05)
    refused = [call for call in papers if call.done()]
    assert [type(call.exception()) for call in refused] == [Overloaded] * 3
    calls.ended.set()
    await asyncio.gather(*first, *(call for call in papers if call not in refused))
    await calls.begin(PAPERS)


async def test_who_has_too_little_time_for_the_line_is_refused() -> None:
    calls = Calls()
    first = [calls.begin(one) for one in (BOOKS, BOOKS, NEWS, NEWS)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="deadline"):
        async with asyncio.timeout(30):
            await calls.begin(PAPERS, left=0.1)
    calls.ended.set()
    await asyncio.gather(*first)
    # Who was refused has given back what it counted.
    await asyncio.gather(calls.begin(PAPERS), calls.begin(PAPERS))


async def test_a_grpc_call_says_how_much_time_its_caller_has() -> None:
    calls, backend, context = Calls(), Mock(), Mock(**{"time_remaining.return_value": 0.1})
    first = [calls.begin(one) for one in (BOOKS, BOOKS, NEWS, NEWS)]
    await asyncio.sleep(0)
    papers = api_pb2.IndexQuery(query="bees", index=common_pb2.ResourceRef(namespace="default", name="papers"))
    with pytest.raises(Overloaded, match="deadline"):
        async with asyncio.timeout(30):
            await Api(backend, calls.limits).ProcessQuery(api_pb2.QueryRequest(index=papers), context)
    calls.ended.set()
    await asyncio.gather(*first)
