"""`cortex logs`: what a process wrote, also after it has ended."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Annotated, Final

import typer

from cortex_cli.commands.common import DEFAULT_DATA_DIR, DataDir, fail

ALIASES: Final = {"gateway": "datapunk-cortex-api", "postgresql": "postgres", "operator": "supervisor"}
FOLLOW_SECONDS: Final = 0.2


def logs(
    name: Annotated[str, typer.Argument(help="postgres, valkey, gateway, operator, a resource or a pod.")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option(min=0, help="Only the last lines.")] = 200,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show the log of a server, the gateway, a resource or a pod."""
    folder = data_dir / "logs"
    found = _find(folder, ALIASES.get(name.lower(), name), data_dir / "processes")
    if not found:
        fail(f"there is no log of {name!r} in {folder}; there are: {', '.join(_names(folder)) or 'none'}")
    path = found[0]
    others = [other.stem for other in found[1:]]
    if others:
        typer.echo(f"{path.stem} (also: {', '.join(others)})", err=True)
    with path.open(errors="replace") as log:
        for line in deque(log, maxlen=tail):
            typer.echo(line, nl=False)
        if follow:
            try:
                _follow(path, log.tell())
            except KeyboardInterrupt:
                return


def _find(folder: Path, name: str, records: Path) -> list[Path]:
    """What runs first, by its record; then the newest."""
    name = name.replace("/", ".")
    for pattern in (f"{name}.log", f"*.{name}.log", f"{name}-*.log", f"*.{name}-*.log"):
        if found := list(folder.glob(pattern)):
            return sorted(found, key=lambda log: (_runs(log, records), log.stat().st_mtime), reverse=True)
    return []


def _runs(log: Path, records: Path) -> bool:
    return (records / f"{log.stem}.json").exists()


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.log"))


def _follow(path: Path, at: int) -> None:
    while True:
        if path.stat().st_size < at:
            at = 0  # put aside at a new start
        with path.open("rb") as log:
            log.seek(at)
            typer.echo(log.read().decode(errors="replace"), nl=False)
            at = log.tell()
        time.sleep(FOLLOW_SECONDS)
