"""The fake GPU nodes of the run's cluster, and passes over an index in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cortex_kube.client import Api
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.plane import Plane, PlaneOptions
from cortex_testbed.pools import POOL_LABEL
from doubles import CountingCluster
from objects import a_secret
from passes import Passes


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
