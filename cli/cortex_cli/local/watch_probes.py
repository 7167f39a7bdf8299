"""When a container counts as started, ready and healthy, from the answers to its probes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from cortex_operator.cluster.port import Object

from cortex_cli.local.probes import Prober

EAGER_SECONDS: Final = 0.15
"""Between two questions to a container that is not ready yet: a process of this machine starts faster than an image."""

SetReady = Callable[[bool, str], Awaitable[None]]


async def watch_probes(container: Object, prober: Prober, set_ready: SetReady) -> str:
    """Asks until the container fails, and says why it is to be killed. Never returns while it is healthy."""
    if startup := container.get("startupProbe"):
        if failure := await _until_started(startup, prober, set_ready):
            return failure
        if "readinessProbe" not in container:
            await set_ready(True, "")
    watches = [asyncio.create_task(_forever())]
    if readiness := container.get("readinessProbe"):
        watches.append(asyncio.create_task(_readiness(readiness, prober, set_ready)))
    if liveness := container.get("livenessProbe"):
        watches.append(asyncio.create_task(_liveness(liveness, prober)))
    try:
        done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
        return next(iter(done)).result()
    finally:
        for watch in watches:
            watch.cancel()


async def _forever() -> str:
    await asyncio.get_running_loop().create_future()
    return ""


async def _until_started(probe: Object, prober: Prober, set_ready: SetReady) -> str:
    period = float(probe.get("periodSeconds", 10))
    allowed = float(probe.get("initialDelaySeconds", 0)) + period * int(probe.get("failureThreshold", 3))
    deadline = time.monotonic() + allowed
    while why := await prober.ask(probe):
        if time.monotonic() > deadline:
            return f"the startup probe failed for {allowed:g} s: {why}"
        await set_ready(False, f"it has not started yet: {why}")
        await asyncio.sleep(EAGER_SECONDS)
    return ""


async def _readiness(probe: Object, prober: Prober, set_ready: SetReady) -> str:
    failures, ready = 0, False
    while True:
        why = await prober.ask(probe)
        failures = failures + 1 if why else 0
        if not why:
            ready = True
        elif failures >= int(probe.get("failureThreshold", 3)):
            ready = False
        await set_ready(ready, f"the readiness probe says: {why}" if why else "")
        await asyncio.sleep(float(probe.get("periodSeconds", 10)) if ready else EAGER_SECONDS)


async def _liveness(probe: Object, prober: Prober) -> str:
    failures = 0
    await asyncio.sleep(float(probe.get("initialDelaySeconds", 0)))
    while failures < int(probe.get("failureThreshold", 3)):
        await asyncio.sleep(float(probe.get("periodSeconds", 10)))
        why = await prober.ask(probe)
        failures = failures + 1 if why else 0
    return f"the liveness probe failed {failures} times: {why}"
