"""Two operators and one Lease on the API server: who leads, and how soon another one does. Times are printed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from itertools import cycle, groupby
from pathlib import Path
from typing import Any

import pytest
from cortex_kube.client import Api
from cortex_operator.cluster import Conflict, NotFound, ObjectKey, Unavailable
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_testbed.kubectl import Kubectl
from doubles import cancelled
from fault_proxy import Asked, FaultProxy
from objects import Place, until
from operators import OperatorProcess

QUICK = {"CORTEX_LEASE_SECONDS": "9"}
SLOW = {"CORTEX_LEASE_SECONDS": "60"}
LOST = 4
Starts = Callable[..., OperatorProcess]


@pytest.fixture
def start(api_server: Path, namespace: str, tmp_path: Path) -> Iterator[Starts]:
    """Starts operators in the test's namespace, which end with the test."""
    started: list[OperatorProcess] = []

    def start(kubeconfig: Path = api_server, **environment: str) -> OperatorProcess:
        log = tmp_path / f"operator-{len(started)}.log"
        pod = {"CORTEX_POD": f"operator-{len(started)}"}
        started.append(OperatorProcess(kubeconfig, log, namespace, **pod, **environment))
        return started[-1]

    yield start
    for operator in started:
        operator.kill()


@pytest.fixture
async def proxies(api_server: Path, tmp_path: Path) -> AsyncIterator[list[FaultProxy]]:
    """One for each of two operators."""
    async with AsyncExitStack() as stack:
        found = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            found.append(await stack.enter_async_context(FaultProxy(tmp_path / name).before(api_server)))
        yield found


@pytest.fixture
async def cluster(api_server: Path) -> AsyncIterator[KubernetesCluster]:
    async with await Api.connect(kubeconfig=api_server) as api:
        yield KubernetesCluster(api)


@pytest.fixture
async def place(cluster: KubernetesCluster, namespace: str) -> Place:
    """The test's namespace, with what an index needs to get its objects."""
    place = Place(namespace)
    await cluster.apply(place.secret("cortex-lake", dsn="postgresql://lake.invalid/cortex"))
    await cluster.apply(place.secret("cortex-state", url="redis://state.invalid"))
    return place


async def leads(operator: OperatorProcess, seconds: float = 60.0) -> None:
    """Returns when it leads and sees everything."""
    await asyncio.to_thread(operator.until, "leading: ", seconds)
    await asyncio.to_thread(operator.until_ready, seconds)


async def takes_over(operator: OperatorProcess, began: datetime, why: str) -> float:
    """After how many seconds it led, by its log."""
    line = await asyncio.to_thread(operator.until, "leading: ")
    led = (datetime.fromisoformat(line["time"]) - began).total_seconds()
    await leads(operator)
    print(f"{why}: leads after {led:.2f} s, sees everything after {(datetime.now(UTC) - began).total_seconds():.2f} s")
    return led


async def follows(operator: OperatorProcess) -> None:
    """Returns when it follows, which is ready."""
    await asyncio.to_thread(operator.until, "follower: ")
    status, text = await asyncio.to_thread(operator.ask, "/readyz")
    assert (status, text.startswith("follower: Lease ")) == (200, True), text
    assert await asyncio.to_thread(operator.measure, "cortex_operator_leader") == 0


async def reconciles(cluster: KubernetesCluster, place: Place, replicas: int) -> None:
    """Returns when somebody has done what the index asks for."""
    await cluster.apply(place.index(spec__replicas=replicas), field_manager="author")
    await until(
        cluster,
        ObjectKey("apps/v1", "Deployment", place.namespace, "papers-search"),
        lambda o: o["spec"]["replicas"] == replicas,
    )


def lease(kubectl: Kubectl, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = kubectl.get("lease", "cortex-operator", f"--namespace={namespace}")["spec"]
    return found


async def both(start: Starts, *kubeconfigs: Path, **environment: str) -> tuple[OperatorProcess, OperatorProcess]:
    """A leader and a follower."""
    first = start(*kubeconfigs[:1], **environment)
    await leads(first)
    second = start(*kubeconfigs[1:], **environment)
    await follows(second)
    return first, second


async def test_sigterm_hands_over_at_once(
    cluster: KubernetesCluster, kubectl: Kubectl, place: Place, start: Starts
) -> None:
    first, second = await both(start, **SLOW)
    assert lease(kubectl, place.namespace)["holderIdentity"].startswith("operator-0_")
    assert await asyncio.to_thread(first.measure, "cortex_operator_leader") == 1
    began = datetime.now(UTC)
    assert await asyncio.to_thread(first.stop) == 0
    led = await takes_over(second, began, "SIGTERM")
    assert led < 45, "the Lease was not released: others wait 60 s"
    assert lease(kubectl, place.namespace)["leaseTransitions"] >= 1
    await reconciles(cluster, place, 2)


async def test_a_killed_leader_is_followed_when_its_lease_has_ended(
    cluster: KubernetesCluster, kubectl: Kubectl, place: Place, start: Starts
) -> None:
    first, second = await both(start)
    await reconciles(cluster, place, 1)
    first.kill()
    renewed = datetime.fromisoformat(lease(kubectl, place.namespace)["renewTime"])
    led = await takes_over(second, renewed, "kill -9, since the last renewal")
    assert 14.9 < led < 30
    await reconciles(cluster, place, 3)


async def test_a_leader_that_was_stopped_ends_when_it_wakes_up_and_writes_nothing(
    cluster: KubernetesCluster, place: Place, start: Starts, proxies: list[FaultProxy]
) -> None:
    first, second = await both(start, *(proxy.kubeconfig for proxy in proxies), **QUICK)
    await reconciles(cluster, place, 1)
    first.signal(signal.SIGSTOP)
    await leads(second)
    # By now what it sent before it was stopped has arrived.
    before = len(proxies[0].asked)
    # The one that sleeps has the events of this in its sockets.
    await reconciles(cluster, place, 4)
    first.signal(signal.SIGCONT)
    assert await asyncio.to_thread(first.ends) == LOST
    assert [asked for asked in proxies[0].asked[before:] if asked.method != "GET"] == []
    assert len(first.messages("lost Lease")) >= 1
    await reconciles(cluster, place, 2)


async def test_an_outage_longer_than_the_term_ends_the_leader_and_another_one_leads(
    cluster: KubernetesCluster, place: Place, start: Starts, proxies: list[FaultProxy]
) -> None:
    first, second = await both(start, *(proxy.kubeconfig for proxy in proxies), **QUICK)

    def writes_own_lease(asked: Asked) -> bool:
        return "/leases" in asked.path and asked.method != "GET"

    proxies[0].fault = proxies[1].fault = lambda _: 503
    for proxy in proxies:
        proxy.break_streams()
    assert await asyncio.to_thread(first.ends) == LOST
    # Whoever of the two sees it first: the guard, or the next renewal.
    said = first.messages("lost Lease")
    assert said
    assert all("not renewed for 6 s" in each or "its term has ended" in each for each in said)
    status, _ = await asyncio.to_thread(second.ask, "/livez")
    assert status == 200
    proxies[1].fault = lambda _: 0
    await leads(second)
    await reconciles(cluster, place, 2)
    assert [asked for asked in proxies[1].asked if writes_own_lease(asked)] != []


async def test_a_follower_writes_nothing_and_watches_nothing(
    cluster: KubernetesCluster, place: Place, start: Starts, proxies: list[FaultProxy]
) -> None:
    first, _second = await both(start, *(proxy.kubeconfig for proxy in proxies))
    for replicas in (1, 3, 2):
        await reconciles(cluster, place, replicas)
    assert [asked for asked in proxies[0].asked if asked.writes] != []
    assert [asked for asked in proxies[1].asked if asked.writes or asked.watches] == []
    assert await asyncio.to_thread(first.stop) == 0


async def test_there_is_one_writer_whatever_ends_the_leader(
    cluster: KubernetesCluster, place: Place, start: Starts, proxies: list[FaultProxy]
) -> None:
    writers: list[int] = []

    def notes(number: int) -> Callable[[Asked], int]:
        def note(asked: Asked) -> int:
            if asked.writes:
                writers.append(number)
            return 0

        return note

    for number, proxy in enumerate(proxies):
        proxy.fault = notes(number)
    leader, follower = await both(start, *(proxy.kubeconfig for proxy in proxies), **QUICK)
    changing = asyncio.create_task(changes(cluster, place))
    for turn, number in enumerate((signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL)):
        await until_writing(writers, turn % 2)
        leader.signal(number)
        await leads(follower)
        await until_writing(writers, 1 - turn % 2)
        leader.signal(signal.SIGCONT)
        assert await asyncio.to_thread(leader.ends) == {signal.SIGTERM: 0, signal.SIGSTOP: LOST}.get(number, -number)
        leader, follower = follower, start(proxies[turn % 2].kubeconfig, **QUICK)
        await follows(follower)
    await cancelled(changing)
    assert [number for number, _ in groupby(writers)] == [0, 1, 0, 1]


async def changes(cluster: KubernetesCluster, place: Place) -> None:
    """Something to do at every moment."""
    for replicas in cycle((1, 2, 3)):
        # The API server gives up an apply that meets too many other writes in a row.
        with suppress(Conflict):
            await cluster.apply(place.index(spec__replicas=replicas), field_manager="author")
        await asyncio.sleep(0.05)


async def until_writing(writers: list[int], number: int) -> None:
    async with asyncio.timeout(60):
        while number not in writers[-1:]:  # noqa: ASYNC110 - the proxies note it
            await asyncio.sleep(0.02)


async def test_who_stood_still_before_the_bytes_left_sends_nothing(api_server: Path, place: Place) -> None:
    asked: list[None] = []

    def fence() -> None:
        asked.append(None)
        if len(asked) > 1:
            raise PermissionError("its term has ended")

    note = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late", "namespace": place.namespace}}
    async with await Api.connect(kubeconfig=api_server) as api:
        with pytest.raises((PermissionError, Unavailable)):
            await KubernetesCluster(api, fence=fence).apply(note)
        with pytest.raises(NotFound):
            await KubernetesCluster(api).get(ObjectKey.of(note))
    assert len(asked) > 1
