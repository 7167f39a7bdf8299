"""The policies of a process while it runs: those of its environment, and over them those of a file that may change.

    async with Live(settings.policies, settings.policies_file) as live:
        live.use(lambda now: gate.change(now.limits.search))      # at once, and at each change

Shields those who have a policy from where it comes from. A file that is not valid changes nothing, and is told: by one
line of the log, in /metrics, and by `problem`. What a file leaves out is as the environment has it, and so is all of it
when there is no file.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import yaml
from prometheus_client import Gauge
from pydantic import ValidationError

from cortex_workloads.runtime.resilience.policies import Policies
from cortex_workloads.runtime.telemetry import REGISTRY

_log: Final = logging.getLogger("cortex.resilience")
_APPLIED: Final = Gauge(
    "cortex_policies_applied_timestamp_seconds", "When the policies changed last (Unix time)", registry=REGISTRY
)
_INVALID: Final = Gauge("cortex_policies_invalid", "1: the file of policies is refused", registry=REGISTRY)
_LOOK_SECONDS: Final = 1.0
_MOST_BYTES: Final = 64 * 1024
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

P = TypeVar("P", bound=Policies)


class Live(Generic[P]):
    """`now` are the policies that hold, `problem` says why those of the file do not; empty: they do. `begun` are those
    of the environment. Of one event loop."""

    def __init__(self, begun: P, file: Path | None = None) -> None:
        self.now = begun
        self.problem = ""
        self._begun, self._file = begun, file
        self._users: list[Callable[[P], None]] = []
        self._seen: bytes | None = None
        self._beside: list[str] = []
        self._task: asyncio.Task[None] | None = None
        _APPLIED.set_to_current_time()
        _INVALID.set(0)
        self.look()

    async def __aenter__(self) -> Self:
        if self._file is not None:
            self._task = asyncio.create_task(self._follow(), name="policies")
        return self

    async def __aexit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()

    def use(self, apply: Callable[[P], None]) -> None:
        """Calls `apply` with the policies that hold, now and whenever they change."""
        self._users.append(apply)
        apply(self.now)

    def look(self) -> None:
        """Reads the file, and applies it if it says something else than before."""
        if self._file is None:
            return
        try:
            found = _read(self._file)
            self._tell_others(self._file, found)
            if found == self._seen and not self.problem:
                return
            wanted = _over(self._begun, found)
        except (OSError, ValueError) as error:
            return self._refuse(_said(error))
        self._seen = found
        self._accept()
        if changes := list(_changes("", self.now.model_dump(by_alias=True), wanted.model_dump(by_alias=True))):
            self._apply(wanted, changes)

    async def _follow(self) -> None:
        # A volume of a ConfigMap swaps links, which no notification tells in the same way everywhere.
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.look()

    def _tell_others(self, file: Path, found: bytes | None) -> None:
        """A ConfigMap with another key is there, and says nothing."""
        beside = _names(file.parent) if found is None else []
        if beside and beside != self._beside:
            _log.warning(
                "there is no %s in %s, only %s: no policies are taken from there; name the ConfigMap's key %s",
                *(file.name, file.parent, ", ".join(beside), file.name),
            )
        self._beside = beside

    def _apply(self, wanted: P, changes: list[str]) -> None:
        self.now = wanted
        for apply in self._users:
            apply(wanted)
        _APPLIED.set_to_current_time()
        _log.info("policies changed: %s", ", ".join(changes), extra={"file": str(self._file)})

    def _refuse(self, why: str) -> None:
        problem = f"the policies in {self._file} are not valid: {why}; correct them, until then those before them hold"
        if problem != self.problem:
            self.problem = problem
            _INVALID.set(1)
            _log.error("%s", problem)

    def _accept(self) -> None:
        if self.problem:
            self.problem = ""
            _INVALID.set(0)
            _log.info("the policies in %s are valid again", self._file)


def _read(file: Path) -> bytes | None:
    try:
        with file.open("rb") as opened:
            found = opened.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(found) > _MOST_BYTES:
        raise ValueError(f"the file is larger than {_MOST_BYTES // 1024} KiB")
    return found


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _over(begun: P, found: bytes | None) -> P:
    if found is None:
        return begun
    try:
        said = yaml.load(found, _Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"it is neither JSON nor YAML ({' '.join(str(error).split())})") from None
    if not isinstance(said, dict | None):
        raise ValueError("it is not a mapping")
    return type(begun).model_validate(_merged(begun.model_dump(by_alias=True), said or {}))


def _merged(base: dict[str, Any], over: dict[Any, Any]) -> dict[Any, Any]:
    def both(name: Any, value: Any) -> Any:
        below = base.get(name)
        return _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value

    return {**base, **{name: both(name, value) for name, value in over.items()}}


def _changes(path: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for name, value in after.items():
        if isinstance(value, dict):
            yield from _changes(f"{path}{name}.", before[name], value)
        elif before[name] != value:
            yield f"{path}{name} {before[name]} -> {value}"


def _said(error: OSError | ValueError) -> str:
    match error:
        case ValidationError():
            return "; ".join(f"{'.'.join(map(str, line['loc']))}: {line['msg']}" for line in error.errors())
        case OSError():
            return f"the file cannot be read ({error.strerror})"
    return str(error)
