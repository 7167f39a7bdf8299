"""Which archives the node has imported: none is read twice, and images of older builds do not pile up."""

from __future__ import annotations

import json
from pathlib import Path

from cortex_cli.local.launch import write_private


class Archives:
    """Two files of a folder: what was imported since the node started, and between its start before and that one."""

    def __init__(self, directory: Path) -> None:
        self._now = directory / "imported.json"
        self._before = directory / "imported-before.json"

    def names(self, archive: Path) -> list[str]:
        """Of the images that it held when it was imported; none when it was not, or has changed."""
        return {**_read(self._before), **_read(self._now)}.get(_stamp(archive), [])

    def add(self, archive: Path, names: list[str]) -> None:
        """It was imported, or would have been."""
        write_private(self._now, json.dumps({**_read(self._now), _stamp(archive): names}))

    def turn(self) -> set[str]:
        """The node starts: the names that were imported since it did before."""
        if self._now.exists():
            self._now.replace(self._before)
        return {name for names in _read(self._before).values() for name in names}


def _stamp(archive: Path) -> str:
    status = archive.stat()
    return f"{archive.absolute()} {status.st_mtime_ns} {status.st_size}"


def _read(path: Path) -> dict[str, list[str]]:
    try:
        content: dict[str, list[str]] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content
