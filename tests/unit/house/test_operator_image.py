"""The operator's image has the few files of the workloads that the operator imports: no more, and none is forgotten."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
IMPORTED = """
import sys, cortex_operator.main
print("\\n".join(m.__file__ for n, m in sys.modules.items() if n.startswith("cortex_workloads") and m.__file__))
"""


def test_the_image_has_what_the_operator_imports_of_the_workloads() -> None:
    said = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    imported = {Path(file).relative_to(ROOT / "workloads").as_posix() for file in said.split()}
    stages = re.split(r"^FROM ", (ROOT / "images/Containerfile").read_text(), flags=re.MULTILINE)
    copied = {
        file
        for stage in stages
        if stage.startswith(("python AS shared-code", "shared-code AS operator-code"))
        for file in re.findall(r"workloads/(cortex_workloads/\S+\.py)", stage)
    }
    assert imported == copied
