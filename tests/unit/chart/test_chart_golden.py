"""What the chart renders, whole: reviews see each change. CORTEX_UPDATE_GOLDEN=1 writes the files anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from helm_chart import CHART, TRIAL, helm, render

GOLDEN = Path(__file__).parent / "golden"
CASES = {
    "default": [],
    "trial": ["--values", TRIAL, "--set", "resourceNamespaces={default}"],
    "production": ["--values", CHART / "values-production.yaml"],
    "namespaced": ["--values", CHART / "values-namespaced.yaml"],
}


@pytest.mark.parametrize("case", CASES)
def test_rendered_chart(case: str) -> None:
    """Without the CRDs, which are generated and compared elsewhere (test_chart_crds.py)."""
    words = ["--set", "crds.enabled=false", *CASES[case]]
    text = re.sub(r"[ \t]+$", "", render(*words), flags=re.MULTILINE)
    golden = GOLDEN / f"{case}.yaml"
    if os.environ.get("CORTEX_UPDATE_GOLDEN") == "1":
        golden.write_text(text)

    assert text == golden.read_text(), f"{golden} differs; CORTEX_UPDATE_GOLDEN=1 writes it anew"


@pytest.mark.parametrize("case", CASES)
def test_lint_has_nothing_to_say(case: str) -> None:
    done = helm("lint", "--strict", CHART, *CASES[case])

    assert (done.returncode, re.findall(r"\[(?:WARNING|ERROR)\].*", done.stdout)) == (0, [])
