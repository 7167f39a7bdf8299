"""What is wrong in a manifest, and where."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


def sentence(path: str, reason: str, hint: str) -> str:
    """One mistake in words: `spec.replicas: is at least 0, found -1`."""
    return (f"{path}: " if path else "") + reason + (f" ({hint})" if hint else "")


@dataclass(frozen=True)
class Problem:
    """One mistake. `line` and `column` count from 1; 0: the file as a whole. `path` is like `spec.nodes[2].name`."""

    file: str
    line: int
    column: int
    path: str
    reason: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.severity}: {sentence(self.path, self.reason, self.hint)}"

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return asdict(self)
