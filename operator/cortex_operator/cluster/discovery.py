"""Which kinds an API server serves; shields callers from its discovery documents."""

from __future__ import annotations

from collections.abc import Iterable

from cortex_kube import client as kube
from cortex_kube.client import Api

from cortex_operator.cluster.refusals import Asker, translated


async def served_of(api: Api, kinds: Iterable[tuple[str, str]], asker: Asker) -> frozenset[tuple[str, str]]:
    """Those of the kinds (apiVersion and kind; none of the core group) that are served now: one small request for each
    apiVersion. Raises Forbidden, Unavailable."""
    wanted = frozenset(kinds)
    found: set[tuple[str, str]] = set()
    for version in sorted({version for version, _ in wanted}):
        found |= {(version, kind) for kind in await _kinds_of(api, version, asker)}
    return wanted & found


async def _kinds_of(api: Api, version: str, asker: Asker) -> set[str]:
    with translated(f"the discovery of {version}", asker):
        try:
            answer = await api.request("GET", f"/apis/{version}")
        except kube.NotFound:
            return set()
    return {resource["kind"] for resource in answer.get("resources") or ()}
