"""Namespaces that are to be watched and do not exist. Shields people from an operator that serves nothing and says
nothing: a watch of such a namespace is open and empty."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from cortex_kube.client import Api, ApiError, NotFound
from cortex_kube.resources import path

log = logging.getLogger(__name__)


async def warn_of_absent(api: Api, namespaces: Sequence[str]) -> None:
    """One line of the log for all that are not there. An API server that does not answer is not waited for."""
    there = await asyncio.gather(*(_may_exist(api, namespace) for namespace in namespaces))
    if absent := [namespace for namespace, found in zip(namespaces, there, strict=True) if not found]:
        log.warning(
            "CORTEX_WATCH_NAMESPACES (value watchNamespaces of the chart) names %s, which %s not exist: nothing is "
            "served there; create %s (kubectl create namespace %s), or correct the value",
            ", ".join(absent),
            "does" if len(absent) == 1 else "do",
            "it" if len(absent) == 1 else "them",
            absent[0],
        )


async def _may_exist(api: Api, namespace: str) -> bool:
    try:
        await api.request("GET", path("v1", "Namespace", None, namespace))
    except NotFound:
        return False
    except ApiError:
        return True
    return True
