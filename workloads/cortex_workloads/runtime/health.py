"""Whether this pod can answer something (readiness), and what it misses (degraded).

A check is named before the server starts and becomes ready once; what is lost later makes the pod degraded, not
unready, so that fallbacks can run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from grpc_health.v1 import health, health_pb2

READINESS: Final = ""
LIVENESS: Final = "liveness"


@dataclass
class Check:
    """One thing that the pod depends on. `message` says what is wrong and what to do; empty when nothing is."""

    ok: bool = False
    ready_once: bool = False
    reason: str = "Starting"
    message: str = "not there yet"


@dataclass
class Health:
    """Named checks, and the `grpc.health.v1` services made of them: `""` is readiness, `liveness` always serves."""

    checks: dict[str, Check] = field(default_factory=dict)
    draining: bool = False
    servicer: health.aio.HealthServicer = field(default_factory=health.aio.HealthServicer)

    def expect(self, *names: str) -> None:
        """Names what has to be there before the pod is ready."""
        for name in names:
            self.checks.setdefault(name, Check())

    async def ok(self, name: str) -> None:
        """The named dependency answers."""
        self.checks[name] = Check(ok=True, ready_once=True, reason="", message="")
        await self.publish()

    async def failing(self, name: str, reason: str, message: str, *, enough: bool = False) -> None:
        """The named dependency does not answer. `reason` is CamelCase and stable; `enough`: what there is of it is
        enough to be ready."""
        ready = enough or self.checks.get(name, Check()).ready_once
        self.checks[name] = Check(ok=False, ready_once=ready, reason=reason, message=message)
        await self.publish()

    async def drain(self) -> None:
        """From now on the pod is not ready, whatever answers."""
        self.draining = True
        await self.publish()

    @property
    def ready(self) -> bool:
        """Whether the pod can answer something."""
        return not self.draining and all(check.ready_once for check in self.checks.values())

    @property
    def degraded(self) -> bool:
        """Whether something is lost that was there."""
        return any(check.ready_once and not check.ok for check in self.checks.values())

    def explain(self) -> dict[str, object]:
        """The checks, for people: `{ready, degraded, checks: {NAME: {ok, reason, message}}}`."""
        checks = {
            name: {"ok": check.ok} | ({} if check.ok else {"reason": check.reason, "message": check.message})
            for name, check in self.checks.items()
        }
        return {"ready": self.ready, "degraded": self.degraded, "draining": self.draining, "checks": checks}

    async def publish(self) -> None:
        """Tells `grpc.health.v1` (also those who watch)."""
        status = health_pb2.HealthCheckResponse
        await self.servicer.set(READINESS, status.SERVING if self.ready else status.NOT_SERVING)
        await self.servicer.set(LIVENESS, status.SERVING)
