"""Events of the real operator on a real API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cortex_kube.client import Api
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_testbed.kubectl import Kubectl
from objects import Place, until
from operators import OperatorProcess

Starts = Callable[[], OperatorProcess]


@pytest.fixture
def start(api_server: Path, namespace: str, tmp_path: Path) -> Iterator[Starts]:
    started: list[OperatorProcess] = []

    def start() -> OperatorProcess:
        log = tmp_path / f"operator-{len(started)}.log"
        started.append(OperatorProcess(api_server, log, namespace, CORTEX_POD="operator-0"))
        started[-1].until_ready()
        return started[-1]

    yield start
    for operator in started:
        operator.kill()


def found(kubectl: Kubectl, namespace: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = kubectl.get("events.events.k8s.io", f"--namespace={namespace}")["items"]
    return [event for event in listed if event.get("reportingController") == "cortex.datapunk.io/operator"]


async def test_what_is_missing_is_told_once_and_a_restart_tells_nothing(
    api_server: Path, namespace: str, kubectl: Kubectl, start: Starts
) -> None:
    place = Place(namespace)
    operator = start()
    async with await Api.connect(kubeconfig=api_server) as api:
        cluster = KubernetesCluster(api)
        await cluster.apply(place.index(), field_manager="author")
        index = await until(cluster, place.papers, lambda o: o["status"]["observedGeneration"] == 1)
        operator.until_measured("cortex_operator_events_total", 1)
        (event,) = found(kubectl, namespace)
        assert (event["type"], event["reason"], event["reportingInstance"]) == (
            "Warning",
            "DependencyMissing",
            "operator-0",
        )
        assert event["note"].startswith("SecretNotFound: Secret cortex-lake is not there; create it: kubectl")
        assert event["regarding"]["uid"] == index["metadata"]["uid"]
        assert "DependencyMissing" in kubectl("describe", "cortexindex", "papers", f"--namespace={namespace}")
        assert operator.stop() == 0

        operator = start()
        operator.until_measured("cortex_operator_passes_total", 1)
        assert operator.measure("cortex_operator_events_total") == 0

        # Before the Secrets: a pass may come at any moment.
        await cluster.apply(place.index(spec__replicas=0), field_manager="author")
        await cluster.apply(place.secret("cortex-lake", dsn="postgresql://u:hush@lake.invalid/cortex"))
        await cluster.apply(place.secret("cortex-state", url="redis://:hush@state.invalid"))
        await cluster.apply(place.index(spec__replicas=0, metadata__labels={"team": "a"}), field_manager="author")
        await until(cluster, place.papers, lambda o: o["status"]["conditions"][0]["reason"] == "ScaledToZero")
        operator.until_measured("cortex_operator_events_total", 1)
        assert [event["reason"] for event in found(kubectl, namespace)] == ["DependencyMissing", "ScaledToZero"]
        assert "hush" not in str(found(kubectl, namespace))
        assert operator.stop() == 0
