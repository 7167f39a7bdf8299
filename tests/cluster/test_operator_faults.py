"""The operator behind an API server that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from cortex_kube.client import Api
from cortex_operator.cluster.kubernetes import KubernetesCluster
from fault_proxy import Asked, FaultProxy
from objects import Place, until
from operators import OperatorProcess

Starts = Callable[..., OperatorProcess]
WATCHFUL = {"module": "watchful_operator", "CORTEX_LEASE_SECONDS": "12"}


@pytest.fixture
async def proxy(api_server: Path, tmp_path: Path) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(tmp_path).before(api_server) as proxy:
        yield proxy


@pytest.fixture
def start(proxy: FaultProxy, namespace: str, tmp_path: Path) -> Iterator[Starts]:
    """Starts operators behind the proxy in the test's namespace, which end with the test."""
    started: list[OperatorProcess] = []

    def start(**environment: str) -> OperatorProcess:
        log = tmp_path / f"operator-{len(started)}.log"
        started.append(OperatorProcess(proxy.kubeconfig, log, namespace, **environment))
        return started[-1]

    yield start
    for operator in started:
        operator.kill()


def no_kinds(asked: Asked) -> int:
    return 404 if asked.path.startswith("/apis/cortex.datapunk.io") else 0


async def test_it_waits_for_its_kinds_with_one_line_and_says_when_they_have_come(
    proxy: FaultProxy, start: Starts
) -> None:
    proxy.fault = no_kinds
    operator = start()
    line = await asyncio.to_thread(operator.until, "waiting for")
    assert "CustomResourceDefinitions" in line["message"]
    assert "crds.enabled" in line["message"]
    status, why = await asyncio.to_thread(operator.ask, "/readyz")
    assert (status, "CustomResourceDefinitions" in why) == (503, True)
    assert (await asyncio.to_thread(operator.ask, "/livez"))[0] == 200
    await proxy.until_asked(4, no_kinds)
    proxy.fault = lambda _: 0
    await asyncio.to_thread(operator.until, "is ready: it serves cortex.datapunk.io/v1alpha1")
    await asyncio.to_thread(operator.until_ready)
    assert len(operator.messages("waiting for")) == 1
    assert await asyncio.to_thread(operator.stop) == 0


async def test_kinds_of_another_version_are_told_apart_from_none(proxy: FaultProxy, start: Starts) -> None:
    proxy.fault = lambda asked: 404 if asked.path == "/apis/cortex.datapunk.io/v1alpha1" else 0
    operator = start()
    line = await asyncio.to_thread(operator.until, "waiting for")
    assert "cortex.datapunk.io/v1alpha1, of which the cluster serves" in line["message"]
    assert await asyncio.to_thread(operator.stop) == 0


async def test_a_watch_that_ends_for_good_ends_the_process_with_one_line(proxy: FaultProxy, start: Starts) -> None:
    operator = start()
    await asyncio.to_thread(operator.until_ready)
    proxy.fault = lambda asked: 404 if asked.watches and "/deployments" in asked.path else 0
    proxy.break_streams()
    assert await asyncio.to_thread(operator.ends) == 1
    # kopf itself may tell once that it tries again.
    told = [line["message"] for line in operator.lines if line.get("level") == "ERROR"]
    errors = [message for message in told if not message.startswith("Request attempt")]
    assert errors == [
        "a watch ended: a fault (404; was a CustomResourceDefinition removed?); the operator ends, to begin anew"
    ]


async def test_a_right_that_is_taken_away_ends_the_process_at_once_with_the_path(
    proxy: FaultProxy, start: Starts
) -> None:
    operator = start()
    await asyncio.to_thread(operator.until_ready)
    proxy.fault = lambda asked: 403 if "/deployments" in asked.path else 0
    proxy.break_streams()
    assert await asyncio.to_thread(operator.ends) == 1
    (said,) = operator.messages("may not list and watch")
    assert "may not list and watch /apis/apps/v1/namespaces/" in said
    assert "/deployments (403), grant it (RBAC)" in said


async def test_a_watch_that_does_not_come_back_makes_it_stale_and_then_dead(proxy: FaultProxy, start: Starts) -> None:
    operator = start(**WATCHFUL)
    await asyncio.to_thread(operator.until_ready)
    proxy.fault = lambda asked: 503 if "/jobs" in asked.path else 0
    proxy.break_streams()
    for path in ("/readyz", "/livez"):
        said = await asyncio.to_thread(operator.until_failing, path)
        assert "/jobs " in said
        assert " has been away for " in said
    proxy.fault = lambda _: 0
    await asyncio.to_thread(operator.until_ready)
    assert (await asyncio.to_thread(operator.ask, "/livez"))[0] == 200


async def test_a_lease_that_is_renewed_and_not_seen_makes_it_stale_and_then_dead(
    proxy: FaultProxy, start: Starts
) -> None:
    operator = start(**WATCHFUL)
    await asyncio.to_thread(operator.until_ready)
    await asyncio.to_thread(operator.until_measured, "cortex_operator_leader", 1)
    proxy.silence = lambda asked: "/leases" in asked.path
    for path in ("/readyz", "/livez"):
        assert "no renewal of the Lease" in await asyncio.to_thread(operator.until_failing, path)


async def test_an_outage_of_the_api_server_is_waited_for_and_what_happened_meanwhile_is_seen(
    api_server: Path, proxy: FaultProxy, namespace: str, start: Starts
) -> None:
    place = Place(namespace)
    operator = start()
    await asyncio.to_thread(operator.until_ready)
    async with await Api.connect(kubeconfig=api_server) as api:
        cluster = KubernetesCluster(api)
        proxy.fault = lambda _: 503
        proxy.break_streams()
        await cluster.apply(place.index(), field_manager="author")
        await proxy.until_asked(10, lambda _: True)
        proxy.fault = lambda _: 0
        await until(cluster, place.papers, lambda o: o["status"]["observedGeneration"] == 1)
    assert len(operator.messages("Request attempt")) <= 1
    assert (await asyncio.to_thread(operator.ask, "/livez"))[0] == 200
    assert await asyncio.to_thread(operator.stop) == 0


async def test_a_watch_of_which_the_version_is_refused_ends_the_process(proxy: FaultProxy, start: Starts) -> None:
    operator = start()
    await asyncio.to_thread(operator.until_ready)
    proxy.fault = lambda asked: 410 if asked.watches else 0
    proxy.break_streams()
    assert await asyncio.to_thread(operator.ends) == 1


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"CORTEX_SEARCH_IMAGE": ""}, "the environment variable CORTEX_SEARCH_IMAGE is not valid"),
        ({"CORTEX_WATCH_NAMESPACES": '["Not A Name"]'}, "CORTEX_WATCH_NAMESPACES"),
        ({"CORTEX_WATCH_NAMESPACES": "team-a"}, "CORTEX_WATCH_NAMESPACES is not valid JSON"),
        ({"CORTEX_SEARCH_RESOURCES": '{"limits": {"cpu": "much"}}'}, "CORTEX_SEARCH_RESOURCES"),
        ({"KUBECONFIG": "/nowhere/config"}, "/nowhere/config"),
    ],
)
async def test_a_wrong_environment_is_one_line_and_an_end(
    start: Starts, environment: dict[str, str], said: str
) -> None:
    operator = start(**environment)
    assert await asyncio.to_thread(operator.ends) == 2
    wrong = [line for line in operator.lines if line.get("level", "ERROR") == "ERROR"]
    assert len(wrong) == 1
    assert said in wrong[0]["message"]


async def test_a_port_that_is_taken_is_one_line_and_an_end(start: Starts) -> None:
    first = start()
    port = (await asyncio.to_thread(first.until, "listening on port"))["port"]
    second = start(CORTEX_PORT_METRICS=str(port))
    assert await asyncio.to_thread(second.ends) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in second.lines[-1]["message"]
    assert "CORTEX_PORT_METRICS" in second.lines[-1]["message"]
