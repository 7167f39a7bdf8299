"""Servers of a benchmark's own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cortex_cli.local.launch import Launch


@contextmanager
def served(launch: Launch) -> Iterator[str]:
    """The URL of a server that ends with the context."""
    process = subprocess.Popen(
        launch.command,
        cwd=launch.cwd,
        env=dict(launch.env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while launch.probe():
            time.sleep(0.05)
        yield launch.url
    finally:
        process.kill()
        process.wait()
