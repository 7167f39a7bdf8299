"""The API server takes our custom resource definitions and refuses what breaks them, in our words."""

from __future__ import annotations

import re

import pytest
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.paths import CRDS, ROOT


@pytest.mark.parametrize("file", sorted(CRDS.glob("*.yaml")), ids=lambda file: file.stem.rpartition("_")[2])
def test_definition_is_accepted(kubectl: Kubectl, file: object) -> None:
    served = kubectl.get(f"--filename={file}")
    conditions = {each["type"]: each["status"] for each in served["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions.get("NonStructuralSchema", "False") == "False"


def test_quickstart_applies(kubectl: Kubectl, namespace: str) -> None:
    said = kubectl("apply", f"--filename={ROOT / 'examples/quickstart'}", f"--namespace={namespace}")
    assert len(re.findall(r"^cortex(index|workflow)\.cortex\.datapunk\.io/\S+ created$", said, re.MULTILINE)) == 2, said
