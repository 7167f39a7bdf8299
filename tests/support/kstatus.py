"""What kstatus, the library by which Flux, Helm and kpt wait, says of objects."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable

from cortex_operator.cluster import Object
from cortex_testbed import binaries


def kstatus(objects: Iterable[Object]) -> list[str]:
    """InProgress, Current, Failed or Terminating, for each."""
    program = binaries.ensure(["kstatus"]) / "kstatus"
    lines = "".join(json.dumps(obj) + "\n" for obj in objects)
    done = subprocess.run([program], input=lines, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line)["status"] for line in done.stdout.splitlines()]
