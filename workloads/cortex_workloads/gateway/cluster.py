"""The gateway's catalogue in a cluster: connected, and its state told by the log and by health."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from cortex_kube.client import Api, ConfigError

from cortex_workloads.gateway.backend import CATALOGUE
from cortex_workloads.runtime.catalogue import INDEX, WORKFLOW, Catalogue
from cortex_workloads.runtime.catalogue_kubernetes import KubernetesCatalogue, State
from cortex_workloads.runtime.health import Health
from cortex_workloads.runtime.server import StartError

_log: Final = logging.getLogger("cortex.catalogue")


@asynccontextmanager
async def followed(namespaces: Sequence[str], health: Health) -> AsyncIterator[Catalogue]:
    """A catalogue that follows the API server while the context is open. Not ready until the first lists are there
    (but those of namespaces that it may not look into), degraded while it cannot be followed. Raises StartError when no
    cluster is configured."""
    health.expect(CATALOGUE)
    try:
        api = await Api.connect(user_agent="datapunk-cortex-gateway")
    except ConfigError as error:
        raise StartError(f"{error} (or, without a cluster, CORTEX_CATALOGUE_FILE)") from error
    async with api, KubernetesCatalogue(api, namespaces) as catalogue:
        telling = asyncio.create_task(_tell(catalogue, health, api.server))
        try:
            yield catalogue
        finally:
            telling.cancel()


async def _tell(catalogue: KubernetesCatalogue, health: Health, server: str) -> None:
    said = State(False)
    async for state in catalogue.states():
        if state.ok:
            await health.ok(CATALOGUE)
            found = {kind: len(catalogue.list(kind)) for kind in (INDEX, WORKFLOW)}
            _log.info("the catalogue follows %s", server, extra={"indexes": found[INDEX], "workflows": found[WORKFLOW]})
        else:
            await health.failing(CATALOGUE, state.reason, state.message, enough=state.enough)
        if state.reason != said.reason or not state.resources <= said.resources:
            said = state
            _say(state)


def _say(state: State) -> None:
    # A trouble that gets smaller is not told again.
    if state.message:
        level = {"Starting": logging.DEBUG, "ResourcesMissing": logging.INFO}.get(state.reason, logging.WARNING)
        _log.log(level, state.message)
