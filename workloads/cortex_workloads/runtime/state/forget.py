"""Removes everything that the shared state holds of a resource: copies, streams, kept answers, presence."""

from __future__ import annotations

import logging

from cortex_workloads.runtime.errors import CortexError
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.state.aggregates import escaped, key
from cortex_workloads.runtime.state.functions import Functions

_log = logging.getLogger("cortex.state")


async def forget(url: str, resource: Resource) -> None:
    """By a scan of all keys. What nothing answers for stays: the log says so, and a resource that is made again voids
    it. Never raises because of the state."""
    functions = Functions(url)
    try:
        for found in await functions.scan(escaped(key(resource, "")) + "*") if url else ():
            await functions.run("UNLINK", found)
    except CortexError as error:
        _log.warning("keys of %s stay in the shared state: %s", "/".join(resource), error)
    finally:
        await functions.close()
