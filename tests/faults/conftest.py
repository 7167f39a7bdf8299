"""Stages of faults: operators on short timers behind a proxy that lies, and the oracle that judges what they leave."""

from __future__ import annotations

import faulthandler
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import oracle
import pytest
from cortex_kube.client import Api
from cortex_testbed.kubectl import Kubectl
from memory_bed import CANARY
from stage import LONG, Oracle, Stage, named_objects

PATIENCE = 7200.0 if LONG else 900.0
"""Seconds after which a case hangs: some start a dozen operators, on whatever machine this is."""


@pytest.fixture(scope="session")
def operators_home() -> str:
    """The namespace that operators on stages are in: what they render names it."""
    return f"test-home-{secrets.token_hex(4)}"


@pytest.fixture(scope="session")
def shared_stage(api_server: Path, operators_home: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """For all cases of a worker that do not end their operator: a namespace for subjects, and one for what is fresh."""
    kubectl = Kubectl(api_server)
    names = [operators_home, *(f"test-{part}-{secrets.token_hex(4)}" for part in ("subjects", "fresh"))]
    for name in names:
        kubectl("create", "namespace", name)
        kubectl.apply(named_objects(name))
    stage = Stage(api_server, tmp_path_factory.mktemp("stage"), *names)
    stage.start()
    yield stage
    told = kubectl(
        "get", "events,cortexindexes,cortexworkflows,configmaps", "--namespace", stage.namespaces[0], "-o", "json"
    )
    stage.close()
    for name in names:
        kubectl("delete", "namespace", name, "--wait=false")
    assert CANARY not in told, "a status, an Event or a ConfigMap has a secret in it"


@pytest.fixture
def stage(shared_stage: Stage) -> Iterator[Stage]:
    """The shared one, with an operator that lives and sees everything, and no faults."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    shared_stage.heal()
    if not shared_stage.operator.lives:
        shared_stage.start()
    shared_stage.operator.until_ready(60.0)
    yield shared_stage
    shared_stage.heal()


@pytest.fixture
def own_stage(
    api_server: Path, operators_home: str, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> Iterator[Stage]:
    """One for a case that ends its operators; none is started."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    kubectl.apply(named_objects(namespace))
    stage = Stage(api_server, tmp_path, operators_home, namespace)
    yield stage
    stage.close()


@pytest.fixture(scope="session")
def fresh_ones() -> dict[str, str]:
    """The names of what is fresh, by kind and spec."""
    return {}


@pytest.fixture
async def judge(api_server: Path, stage: Stage, fresh_ones: dict[str, str]) -> AsyncIterator[Oracle]:
    """Says whether resources are as they must be."""
    async with await Api.connect(kubeconfig=api_server) as api:
        yield Oracle(api, await oracle.discovered(api), stage, fresh_ones)
