"""What the chart renders, whole: reviews see each change. CORTEX_UPDATE_GOLDEN=1 writes the files anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from helm_chart import CHART, TRIAL, helm, render

GOLDEN = Path(__file__).parent / "golden"
NAMESPACED = "watchNamespaces={team-a,team-b},resourceNamespaces={team-a},lake.dsn=postgresql://u:p@db/lake"
CASES = {
    "default": [],
    "trial": ["--values", TRIAL, "--set", "resourceNamespaces={default}"],
    "namespaced": ["--set", f"{NAMESPACED},state.url=redis://cache:6379/0,imagePullSecrets[0].name=pull"],
}


@pytest.mark.parametrize("case", CASES)
def test_rendered_chart(case: str) -> None:
    """The CRDs are generated and compared elsewhere (test_chart_crds.py)."""
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
