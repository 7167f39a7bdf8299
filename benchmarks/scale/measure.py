"""Ours and a minimal controller-runtime controller in Go, one after the other on a fresh control plane each. Children
are the same objects: the Go controller is given what ours made of one index."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cortex_kinds.base import API_VERSION
from cortex_kube.client import Api
from cortex_kube.resources import path
from cortex_operator.reconcile import sources
from cortex_testbed.components import PlaneOptions
from cortex_testbed.plane import Plane

from benchmarks.scale import controllers
from benchmarks.scale.controllers import Controller
from benchmarks.scale.phases import NAMESPACE, Figures, Phases, index, settled
from benchmarks.scale.seen import Seen

_KINDS: Final = sorted(
    {(each.api_version, each.kind) for each in sources() if each.api_version != API_VERSION and each.kind != "Pod"}
)

Results = dict[str, dict[str, Figures]]


async def _measure(
    make: Callable[[Path, Path], Controller], indexes: int, idle: float
) -> tuple[dict[str, Figures], Any]:
    """All phases of one controller; its figures by phase, and what the Go controller needs to make the same."""
    with tempfile.TemporaryDirectory(prefix="cortex-scale-") as folder:
        plane = Plane(Path(folder) / "plane", PlaneOptions(our_kinds=True))
        try:
            plane.start()
            controller = make(plane.kubeconfig, Path(folder))
            async with await Api.connect(kubeconfig=plane.kubeconfig) as api:
                return await _phases(api, controller, indexes, idle)
        finally:
            plane.stop()


async def _phases(api: Api, controller: Controller, indexes: int, idle: float) -> tuple[dict[str, Figures], Any]:
    meta = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    await api.request("POST", path("v1", "Namespace", None), body=meta)
    controller.start()
    try:
        async with Seen().following(api, NAMESPACE, _KINDS) as seen:
            await controller.until_ready()
            first = await api.request("POST", path(API_VERSION, "CortexIndex", NAMESPACE), body=index("first"))
            await seen.until(lambda: first["metadata"]["uid"] in seen.first)
            await settled(controller)
            names = seen.first[first["metadata"]["uid"]]
            children = controllers.template([seen.objects[child] for child in names], first)
            phases, figures = Phases(api, controller, seen, len(names)), dict[str, Figures]()
            figures["create"] = await phases.create(indexes)
            figures["change"] = await phases.change()
            figures["restart"] = await phases.restart()
            if idle:
                figures["idle"] = await phases.idle(idle)
            return figures, children
    finally:
        controller.stop()


def both(indexes: int, idle: float = 0.0, *, alone: bool = False) -> Results:
    """Figures by controller and phase; `alone`: of ours only. `idle`: seconds to watch them doing nothing."""
    figures, children = asyncio.run(_measure(controllers.ours, indexes, idle))
    found: Results = {"cortex": figures}
    if not alone:
        binary = controllers.build()

        def make(kubeconfig: Path, directory: Path) -> Controller:
            return controllers.controller_runtime(binary, kubeconfig, directory, children)

        found["controller-runtime"], _ = asyncio.run(_measure(make, indexes, idle))
    return found
