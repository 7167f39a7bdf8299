"""The fake GPU nodes of the run's cluster."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.pools import POOL_LABEL


@pytest.fixture(scope="session")
def pools(run_cluster: dict[str, Any]) -> dict[str, list[str]]:
    """The names of the nodes of each pool of testbed/pools/pools.yaml, as the API server has them; all are ready."""
    if not run_cluster["pools"]:
        pytest.skip("no fake nodes are added to a cluster that exists already: unset CORTEX_TEST_CLUSTER")
    pools: dict[str, list[str]] = defaultdict(list)
    for node in Kubectl(run_cluster["url"]).get("nodes", f"--selector={POOL_LABEL}")["items"]:
        pools[node["metadata"]["labels"][POOL_LABEL]].append(node["metadata"]["name"])
    return dict(pools)
