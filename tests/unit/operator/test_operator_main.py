"""The operator's process: what it does not begin with, and when it is told to end in an awkward moment."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from cortex_kube.client import Conflict, NotFound
from cortex_operator import main
from cortex_operator.health import Health
from cortex_operator.settings import mistakes, settings_of
from cortex_operator.watched import Watched
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

VARIABLES = {
    "CORTEX_POD": "operator-1",
    "CORTEX_NAMESPACE": "cortex-system",
    "CORTEX_SEARCH_IMAGE": "registry.invalid/search:1",
    "CORTEX_GRAPH_IMAGE": "registry.invalid/graph:1",
}


class OneLease:
    """An API server with nothing but a Lease; `stop` is set as soon as it is written, which it does not answer."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self.lease: dict[str, Any] | None = None

    async def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> dict[str, Any]:
        if method != "GET":
            return await self._write(body)
        if self.lease is None:
            raise NotFound("no such Lease", reason="NotFound")
        return self.lease

    async def _write(self, lease: dict[str, Any]) -> dict[str, Any]:
        before, version = (self.lease or {}).get("metadata", {}), lease["metadata"].get("resourceVersion")
        if version != before.get("resourceVersion"):
            raise Conflict("it was modified", reason="Conflict")
        self.lease = {**lease, "metadata": {**lease["metadata"], "resourceVersion": str(int(version or 0) + 1)}}
        if not self._stop.is_set():
            self._stop.set()
            await asyncio.Event().wait()
        return self.lease


async def test_a_lease_that_was_written_in_the_moment_of_the_end_is_given_away() -> None:
    settings, stop, registry = settings_of(VARIABLES), asyncio.Event(), CollectorRegistry()
    api: Any = OneLease(stop)
    async with asyncio.timeout(30):
        watched = Watched(api, (), False, 60.0)
        await main._Operator(settings, api, watched, Health(registry), registry, stop).lead()
    assert api.lease["spec"]["holderIdentity"] == ""
    assert api.lease["spec"]["leaseTransitions"] == 0


@pytest.mark.parametrize(
    ("pools", "said"),
    [
        (
            [{"name": "a", "nodeSelector": {"x": "1"}}, {"name": "a", "nodeSelector": {"x": "2"}}],
            "the environment variable CORTEX_GPU_POOLS is not valid: two items have the same name 'a'; remove one",
        ),
        (
            [{"name": "a", "nodeSelector": {"bad key": "1"}}],
            "the environment variable CORTEX_GPU_POOLS is not valid: 0.nodeSelector.bad key",
        ),
        ([{"name": "a"}], "the environment variable CORTEX_GPU_POOLS is not valid: 0.nodeSelector: Field required"),
    ],
)
def test_pools_that_can_only_be_a_mistake_are_refused(pools: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ValidationError) as found:
        settings_of({**VARIABLES, "CORTEX_GPU_POOLS": json.dumps(pools)})
    assert mistakes(found.value).startswith(said)
