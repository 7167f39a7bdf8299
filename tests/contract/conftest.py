from __future__ import annotations

import pytest
from cortex_operator.cluster import Cluster, MemoryCluster


@pytest.fixture(params=["memory"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Every implementation of the port; the suite knows none of them."""
    return {"memory": MemoryCluster}[request.param]()
