"""kubectl of the test bed on one cluster; shields the rest from its command line."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from cortex_testbed import binaries
from cortex_testbed.errors import BedError

SECONDS: Final = 60.0


class Kubectl:
    """Calls it as the user of `kubeconfig`."""

    def __init__(self, kubeconfig: Path | str) -> None:
        self.kubeconfig = kubeconfig

    def __call__(self, *words: str, stdin: str = "", timeout: float = SECONDS) -> str:
        """What it wrote. Raises BedError with what it said, also when it takes longer than `timeout` seconds."""
        command = [str(binaries.ensure(["kubectl"]) / "kubectl"), *words]
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        try:
            done = subprocess.run(
                command, input=stdin, env=env, capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise BedError(f"kubectl {' '.join(words)}: no end within {timeout:.0f} s") from error
        if done.returncode:
            raise BedError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, objects: Iterable[Mapping[str, Any]], *words: str) -> str:
        """Server-side apply of objects. Raises BedError."""
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        return self("apply", "--server-side", "--field-manager=cortex-test-bed", *words, "-f", "-", stdin=content)

    def get(self, *words: str) -> dict[str, Any]:
        """`get WORDS -o json`. Raises BedError."""
        content: dict[str, Any] = json.loads(self("get", *words, "-o", "json"))
        return content
