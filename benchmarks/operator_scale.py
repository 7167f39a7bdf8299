"""What the operator costs: CortexIndexes without pods (replicas 0) on a real API server, new, unchanged, found again.

    PYTHONPATH=testbed:tests/support python -m benchmarks.operator_scale [--indexes 200] [--count]

Prints one JSON object per phase: seconds until all is done, CPU milliseconds per index, RSS in MB, passes. `--count`
puts a proxy between that counts the requests of the operator (watches left out); it slows down, so take times without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cortex_kinds.base import API_VERSION
from cortex_kube.client import Api
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_testbed.components import PlaneOptions
from cortex_testbed.plane import Plane
from fault_proxy import FaultProxy
from operators import OperatorProcess

NAMESPACE = "scale"
QUIET = 5.0
"""Seconds without a pass after which a phase is over."""
CHILDREN = (("apps/v1", "Deployment", 1), ("v1", "Service", 2), ("v1", "ConfigMap", 1), ("v1", "ServiceAccount", 1))
SECRETS = {"cortex-lake": {"dsn": "postgresql://lake.invalid/db"}, "cortex-state": {"url": "redis://state.invalid"}}


class Bench:
    """One cluster and one operator at a time."""

    def __init__(self, cluster: KubernetesCluster, indexes: int, start: Callable[[], OperatorProcess]) -> None:
        self._cluster, self._indexes, self._start = cluster, indexes, start
        self._operator = start()
        self.asked: Callable[[], Counter[str]] = Counter

    async def run(self) -> None:
        """All phases."""
        for name, data in SECRETS.items():
            meta = {"name": name, "namespace": NAMESPACE}
            await self._cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": data})
        await asyncio.to_thread(self._operator.until_ready)
        await self._phase("created", self._create)
        await self._phase("annotated", self._annotate)
        self._operator.kill()
        self._operator = self._start()
        await self._phase("restarted", self._restarted, since_start=True)
        self._operator.kill()

    async def _phase(self, name: str, work: Callable[[], Awaitable[None]], *, since_start: bool = False) -> None:
        before = Counter() if since_start else await self._measures()
        asked, begun = self.asked(), time.monotonic()
        await work()
        seconds = time.monotonic() - begun
        after = await self._quiet()
        used = {key: after[key] - before[key] for key in after}
        told = {
            "phase": name,
            "seconds": round(seconds, 1),
            "cpu_ms_per_index": round(1000 * used["process_cpu_seconds_total"] / self._indexes, 1),
            "passes": int(used["cortex_operator_passes_total"]),
            "pass_ms": round(1000 * used["cortex_operator_pass_seconds_sum"] / used["cortex_operator_passes_total"], 1),
            "cache_kb_per_index": round(after["cortex_operator_cache_bytes"] / self._indexes / 1000, 1),
            "rss_mb": round(after["process_resident_memory_bytes"] / 1e6),
            **({"requests": dict(requests)} if (requests := self.asked() - asked) else {}),
        }
        print(json.dumps(told), flush=True)

    async def _create(self) -> None:
        gate = asyncio.Semaphore(8)

        async def create(number: int) -> None:
            async with gate:
                await self._cluster.apply(_index(number), field_manager="author")

        await asyncio.gather(*map(create, range(self._indexes)))
        while not await self._complete():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(1.0)

    async def _complete(self) -> bool:
        labels = {"app.kubernetes.io/managed-by": "cortex-operator"}
        for api_version, kind, each in CHILDREN:
            found = await self._cluster.list(api_version, kind, namespace=NAMESPACE, labels=labels)
            if len(found) < each * self._indexes:
                return False
        indexes = await self._cluster.list(API_VERSION, "CortexIndex", namespace=NAMESPACE)
        return all(index["status"]["observedGeneration"] == 1 for index in indexes)

    async def _annotate(self) -> None:
        before = (await self._measures())["cortex_operator_passes_total"]
        for number in range(self._indexes):
            noted = _index(number)
            del noted["spec"]
            noted["metadata"]["annotations"] = {"team.example/note": str(time.time())}
            await self._cluster.apply(noted, field_manager="somebody")
        await asyncio.to_thread(
            self._operator.until_measured, "cortex_operator_passes_total", before + self._indexes, 120.0
        )

    async def _restarted(self) -> None:
        await asyncio.to_thread(self._operator.until_ready, 120.0)
        await asyncio.to_thread(self._operator.until_measured, "cortex_operator_passes_total", self._indexes, 300.0)

    async def _quiet(self) -> Counter[str]:
        found, since = await self._measures(), time.monotonic()
        while time.monotonic() - since < QUIET:
            await asyncio.sleep(0.5)
            now = await self._measures()
            if now["cortex_operator_passes_total"] != found["cortex_operator_passes_total"]:
                since = time.monotonic()
            found = now
        return found

    async def _measures(self) -> Counter[str]:
        status, text = await asyncio.to_thread(self._operator.ask, "/metrics")
        assert status == 200, text
        found: Counter[str] = Counter()
        for line in text.splitlines():
            if not line.startswith("#"):
                found[line.split("{")[0].split(" ")[0]] += float(line.rpartition(" ")[2])  # type: ignore[assignment]
        return found


def _index(number: int) -> dict[str, Any]:
    meta = {"name": f"index-{number}", "namespace": NAMESPACE}
    return {"apiVersion": API_VERSION, "kind": "CortexIndex", "metadata": meta, "spec": {"replicas": 0}}


def _requests(proxy: FaultProxy) -> Counter[str]:
    """Requests by method and collection."""
    found: Counter[str] = Counter()
    for asked in proxy.asked:
        words = [word for word in asked.path.split("/") if word]
        if not asked.watches:
            at = words.index("namespaces") + 2 if "namespaces" in words else -1
            found[f"{asked.method} {words[at] if len(words) > at else words[-1]}"] += 1
    return found


@asynccontextmanager
async def _between(kubeconfig: Path, directory: Path, counts: bool) -> AsyncIterator[FaultProxy | None]:
    if not counts:
        yield None
        return
    async with FaultProxy(directory).before(kubeconfig) as proxy:
        yield proxy


async def _main(indexes: int, counts: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="cortex-scale-") as folder:
        directory = Path(folder)
        plane = Plane(directory / "plane", PlaneOptions(our_kinds=True))
        try:
            plane.start()
            async with (
                await Api.connect(kubeconfig=plane.kubeconfig) as api,
                _between(plane.kubeconfig, directory, counts) as proxy,
            ):
                cluster = KubernetesCluster(api)
                await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
                kubeconfig = proxy.kubeconfig if proxy else plane.kubeconfig
                bench = Bench(cluster, indexes, lambda: OperatorProcess(kubeconfig, directory / "operator.log"))
                if proxy:
                    bench.asked = lambda: _requests(proxy)
                await bench.run()
        finally:
            plane.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--indexes", type=int, default=200)
    parser.add_argument("--count", action="store_true")
    arguments = parser.parse_args()
    asyncio.run(_main(arguments.indexes, arguments.count))
