"""The bed of the end-to-end tests: attached to, never started here. A failure leaves a folder that explains it."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path

import pytest
from cortex_testbed import evidence, images
from cortex_testbed.bed import DIRECTORY, Bed, attach
from cortex_testbed.errors import BedError

FAILURES_KEPT = 5
"""Of one run: the first ones explain the others."""
FOLDER = pytest.StashKey[Path]()


@pytest.fixture(scope="session")
def bed() -> Bed:
    """The bed that is up: `bed.kubectl("get", "pods")`, `bed.kubeconfig`, `bed.logs`, `bed.import_image(archive)`."""
    try:
        return attach()
    except BedError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def api_server(bed: Bed) -> Path:
    """An admin's kubeconfig of the bed: `namespace` and `kubectl` are on it here."""
    return bed.kubeconfig


@pytest.fixture(scope="session")
def python_image(bed: Bed) -> str:
    """The name of an image of ours that has Python, on the node."""
    names = bed.import_image(images.build("operator"))
    return next(name for name in names if "-operator:" in name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Gathers how the cluster is while it is as the failed test left it."""
    report = yield
    if report.failed:
        try:
            up = attach()
        except BedError:
            return report
        folder = item.config.stash.setdefault(FOLDER, DIRECTORY / time.strftime("failure-%Y%m%d-%H%M%S"))
        name = f"{item.path.stem}-{item.name}"
        if len(list(folder.glob("*"))) < FAILURES_KEPT:
            evidence.collect(up, folder / name)
            report.sections.append(("cluster", f"logs, events, objects and conditions: {folder / name}"))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Names the folder once more, where it is read."""
    if folder := config.stash.get(FOLDER, None):
        terminalreporter.write_line(f"What the cluster was like at the failures: {folder}", red=True)
