"""The fake GPU nodes of the run's cluster, passes over an index in it, and stages of faults."""

from __future__ import annotations

import faulthandler
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import oracle
import pytest
from cortex_kube.client import Api
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.plane import Plane, PlaneOptions
from cortex_testbed.pools import POOL_LABEL
from doubles import CountingCluster
from memory_bed import CANARY
from objects import a_secret
from passes import Passes
from stage import LONG, Oracle, Stage, named_objects

PATIENCE = 7200.0 if LONG else 300.0
"""Seconds after which a case hangs: some start a dozen operators, on whatever machine this is."""


@pytest.fixture(scope="session")
def pools(run_cluster: dict[str, Any]) -> dict[str, list[str]]:
    """The names of the nodes of each pool of testbed/pools/pools.yaml, as the API server has them; all are ready."""
    if not run_cluster["pools"]:
        pytest.skip("no fake nodes are added to a cluster that exists already: unset CORTEX_TEST_CLUSTER")
    pools: dict[str, list[str]] = defaultdict(list)
    for node in Kubectl(run_cluster["url"]).get("nodes", f"--selector={POOL_LABEL}")["items"]:
        pools[node["metadata"]["labels"][POOL_LABEL]].append(node["metadata"]["name"])
    return dict(pools)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """The admin's kubectl of a control plane of this worker's own, without nodes: definitions that others must not see
    may come and go there."""
    plane = Plane(tmp_path_factory.mktemp("plane"), PlaneOptions(our_kinds=True))
    plane.start()
    yield Kubectl(plane.kubeconfig)
    plane.stop()


@pytest.fixture
async def passes(api_server: Path, namespace: str, pools: dict[str, list[str]]) -> AsyncIterator[Passes]:
    """An index `papers` may be applied: its Secrets are there."""
    async with await Api.connect(kubeconfig=api_server) as api:
        cluster = CountingCluster(KubernetesCluster(api))
        for secret in (a_secret("cortex-lake", dsn="postgresql://h/d"), a_secret("cortex-state", url="redis://h")):
            secret["metadata"]["namespace"] = namespace
            await cluster.apply(secret)
        yield Passes(cluster, namespace)


@pytest.fixture(scope="session")
def operators_home() -> str:
    """The namespace that operators on stages are in: what they render names it."""
    return f"test-home-{secrets.token_hex(4)}"


@pytest.fixture(scope="session")
def shared_stage(api_server: Path, operators_home: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """For all cases of a worker that do not end their operator: a namespace for subjects, and one for what is fresh."""
    kubectl = Kubectl(api_server)
    names = [operators_home, *(f"test-{part}-{secrets.token_hex(4)}" for part in ("subjects", "fresh"))]
    for name in names:
        kubectl("create", "namespace", name)
        kubectl.apply(named_objects(name))
    stage = Stage(api_server, tmp_path_factory.mktemp("stage"), *names)
    stage.start()
    yield stage
    told = kubectl(
        "get", "events,cortexindexes,cortexworkflows,configmaps", "--namespace", stage.namespaces[0], "-o", "json"
    )
    stage.close()
    for name in names:
        kubectl("delete", "namespace", name, "--wait=false")
    assert CANARY not in told, "a status, an Event or a ConfigMap has a secret in it"


@pytest.fixture
def stage(shared_stage: Stage) -> Iterator[Stage]:
    """The shared one, with an operator that lives and sees everything, and no faults."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    shared_stage.heal()
    if not shared_stage.operator.lives:
        shared_stage.start()
    shared_stage.operator.until_ready(60.0)
    yield shared_stage
    shared_stage.heal()


@pytest.fixture
def own_stage(
    api_server: Path, operators_home: str, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> Iterator[Stage]:
    """One for a case that ends its operators; none is started."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    kubectl.apply(named_objects(namespace))
    stage = Stage(api_server, tmp_path, operators_home, namespace)
    yield stage
    stage.close()


@pytest.fixture(scope="session")
def fresh_ones() -> dict[str, str]:
    """The names of what is fresh, by kind and spec."""
    return {}


@pytest.fixture
async def judge(api_server: Path, stage: Stage, fresh_ones: dict[str, str]) -> AsyncIterator[Oracle]:
    """Says whether resources are as they must be."""
    async with await Api.connect(kubeconfig=api_server) as api:
        yield Oracle(api, await oracle.discovered(api), stage, fresh_ones)
