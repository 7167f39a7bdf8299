"""The cluster that KUBECONFIG names; used only when that is said."""

from __future__ import annotations

import os
from pathlib import Path

from cortex_cli.local.launch import write_private

from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl


class Existing:
    """A cluster that is neither started nor stopped here."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.kubeconfig = self.directory / "admin.kubeconfig"
        """A copy of the current context alone: nothing done elsewhere meanwhile can switch the cluster."""

    def start(self) -> None:
        """Returns when it answers. Raises BedError."""
        remedy = "set KUBECONFIG to a cluster that you may change, or leave CORTEX_TEST_CLUSTER unset"
        named = os.environ.get("KUBECONFIG", "")
        missing = [part for part in named.split(os.pathsep) if part and not Path(part).is_file()]
        if not named or missing:
            fault = f"names {missing[0]}, which is not there" if missing else "is not set"
            raise BedError(f"KUBECONFIG {fault}: {remedy}")
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            write_private(self.kubeconfig, Kubectl(named)("config", "view", "--minify", "--flatten", "--raw"))
            Kubectl(self.kubeconfig)("get", "--raw=/readyz", "--request-timeout=5s", timeout=15)
        except BedError as error:
            said = str(error).strip().splitlines()[-1]
            raise BedError(f"the cluster of KUBECONFIG={named} does not answer ({said}): {remedy}") from error

    def stop(self) -> None:
        """Leaves it as it is."""
