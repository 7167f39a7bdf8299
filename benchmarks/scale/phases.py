"""What is measured of one controller: many indexes at once, one change among them, a restart, and nothing to do."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Mapping
from typing import Any, Final

from cortex_kinds.base import API_VERSION
from cortex_kube.client import Api
from cortex_kube.resources import path

from benchmarks.scale.controllers import Controller
from benchmarks.scale.seen import Seen

NAMESPACE: Final = "scale"
_CREATORS: Final = 8
_CHANGES: Final = 200
_PAUSE: Final = 0.5
"""Seconds between two changes, for what the last one led to: a new status, then what other controllers say."""
_WINDOW: Final = 3.0
"""Seconds of a settled controller."""
_IDLE_CPU: Final = 0.05
"""Of a core: less is settled."""

Figures = dict[str, float]


class Phases:
    """Each returns its figures: `_s` seconds, `_ms` milliseconds, `_mb` megabytes."""

    def __init__(self, api: Api, controller: Controller, seen: Seen, children: int) -> None:
        self._api, self._controller, self._seen, self._children = api, controller, seen, children
        self._names: dict[str, str] = {}

    async def create(self, indexes: int) -> Figures:
        """All of them at once, until each has its children and the controller has nothing more to do."""
        cpu, gate, asked = self._controller.cpu(), asyncio.Semaphore(_CREATORS), dict[str, float]()

        async def create(number: int) -> None:
            async with gate:
                made = await self._api.request("POST", _indexes(), body=index(f"index-{number:05}"))
            asked[made["metadata"]["uid"]] = time.monotonic()
            self._names[made["metadata"]["uid"]] = made["metadata"]["name"]

        begun = time.monotonic()
        await asyncio.gather(*map(create, range(indexes)))
        first = self._seen.first
        done = await self._seen.until(lambda: all(len(first.get(uid, ())) >= self._children for uid in asked), 1800.0)
        await settled(self._controller)
        took = sorted(max(first[uid].values()) - since for uid, since in asked.items())
        return {
            "all_children_s": done - begun,
            "create_to_last_child_p50_s": took[len(took) // 2],
            "create_to_last_child_p99_s": took[int(len(took) * 0.99)],
            "cpu_ms_per_index": 1000 * (self._controller.cpu() - cpu) / indexes,
            "rss_mb": self._controller.rss(),
        }

    async def change(self) -> Figures:
        """One index at a time, among all: from the answer to its change until the Deployment is seen changed. Then the
        same without a pause in between (`busy`), when the last change still has its consequences."""
        cpu, rng = self._controller.cpu(), random.Random(1)
        took = await self._changes(rng, _PAUSE)
        spent = self._controller.cpu() - cpu
        busy = await self._changes(rng, 0.0)
        return {
            "first_write_p50_ms": 1000 * took[len(took) // 2],
            "first_write_p99_ms": 1000 * took[int(len(took) * 0.99)],
            "cpu_ms_per_change": 1000 * spent / _CHANGES,
            "busy_first_write_p50_ms": 1000 * busy[len(busy) // 2],
            "busy_first_write_p99_ms": 1000 * busy[int(len(busy) * 0.99)],
        }

    async def _changes(self, rng: random.Random, pause: float) -> list[float]:
        names, took = sorted(self._names.values()), list[float]()
        for number in range(_CHANGES):
            took.append(await self._changed(rng.choice(names), f"note-{pause * 10:.0f}-{number}"))
            await asyncio.sleep(pause)
        return sorted(took)

    async def restart(self) -> Figures:
        """SIGTERM and a start: until it has looked at all; and the objects that it changed, which should be none."""
        await settled(self._controller)
        before = self._seen.versions()
        self._controller.stop()
        begun = time.monotonic()
        self._controller.start()
        await self._controller.until_ready()
        ready = time.monotonic()
        await settled(self._controller)
        after = self._seen.versions()
        changed = sum(before.get(child) != version for child, version in after.items())
        figures = {"cpu_s": self._controller.cpu(), "rss_mb": self._controller.rss(), "objects_changed": changed}
        return {"ready_s": ready - begun, **figures}

    async def idle(self, seconds: float) -> Figures:
        """Nothing to do."""
        before, cpu, sizes, begun = (
            self._seen.versions(),
            self._controller.cpu(),
            [self._controller.rss()],
            time.monotonic(),
        )
        while time.monotonic() - begun < seconds:
            await asyncio.sleep(min(5.0, seconds))
            sizes.append(self._controller.rss())
        spent = time.monotonic() - begun
        changed = sum(before.get(child) != version for child, version in self._seen.versions().items())
        half = len(sizes) // 2
        return {
            "cpu_percent": 100 * (self._controller.cpu() - cpu) / spent,
            "rss_mb": sizes[-1],
            "rss_growth_mb": statistics.median(sizes[half:]) - statistics.median(sizes[: half or 1]),
            "objects_changed": changed,
        }

    async def _changed(self, name: str, note: str) -> float:
        spec = {"template": {"labels": {"note": note}}}
        where, kind = f"{_indexes()}/{name}", "application/merge-patch+json"
        await self._api.request("PATCH", where, body={"spec": spec}, content_type=kind)
        begun = time.monotonic()
        child = ("Deployment", f"{name}-search")
        await self._seen.until(lambda: note in noted(self._seen.objects[child]), 60.0)
        return time.monotonic() - begun


async def settled(controller: Controller, seconds: float = 1800.0) -> None:
    """Returns once it used hardly any CPU for a while. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        used = 1.0
        while used > _IDLE_CPU:
            before = controller.cpu()
            await asyncio.sleep(_WINDOW)
            used = (controller.cpu() - before) / _WINDOW


def noted(deployment: Mapping[str, Any]) -> set[str]:
    """The notes of a Deployment: of its own and of its pods."""
    template = deployment["spec"]["template"]["metadata"].get("labels") or {}
    return {template.get("note", ""), (deployment["metadata"].get("labels") or {}).get("note", "")}


def index(name: str) -> dict[str, Any]:
    """Suspended, so that the operator is measured and nothing else."""
    meta = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": API_VERSION, "kind": "CortexIndex", "metadata": meta, "spec": {"suspend": True}}


def _indexes() -> str:
    return path(API_VERSION, "CortexIndex", NAMESPACE)
