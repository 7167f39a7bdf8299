from __future__ import annotations

import json

from cortex_operator.cluster import MemoryCluster, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.reconcile.deletion.orphans import LEFT_OUT, Orphan, Orphans, config_map, read


def orphan(number: int, message: str = "why") -> Orphan:
    recorded = f"2026-01-01T00:{number // 60 % 60:02}:{number % 60:02}Z"
    return Orphan("CortexIndex", "ns", f"index-{number}", f"uid-{number}", "Retained", message, recorded, "what to do")


async def test_the_newest_are_kept_within_what_an_object_may_hold() -> None:
    cluster = MemoryCluster()
    found = {each.key: each for each in (orphan(n, "é" * 512) for n in range(3000))}
    key = ObjectKey("v1", "ConfigMap", "own", "orphans")
    # Records of a time when each was shorter: what is there may be too much at once.
    await cluster.apply(config_map("own", "orphans", found, 7))
    orphans = Orphans(cluster, "own", "orphans")
    await orphans.record(orphan(3599, "x" * 9999))

    stored = await cluster.get(key)
    assert len(json.dumps(stored)) < 1_000_000
    kept, left_out = read(stored)
    assert ResourceKey("CortexIndex", "ns", "index-3599") in kept
    assert ResourceKey("CortexIndex", "ns", "index-2999") in kept
    assert ResourceKey("CortexIndex", "ns", "index-0") not in kept
    assert left_out == 7 + 3001 - len(kept)
    assert stored["metadata"]["annotations"][LEFT_OUT] == str(left_out)
    assert len(kept[ResourceKey("CortexIndex", "ns", "index-3599")].message) == 512


async def test_what_is_not_known_is_not_written_about() -> None:
    cluster = MemoryCluster()
    await Orphans(cluster, "own", "orphans").remove(orphan(1).key)
    assert await cluster.list("v1", "ConfigMap") == []
