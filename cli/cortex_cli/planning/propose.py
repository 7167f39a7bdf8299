"""A resource as an apply would leave it. The API server says it (a dry run: defaults, CEL, admission), where the user
may apply; else it is told from the manifest.

Shields the plan from the ways to apply: by kubectl with and without --server-side, or by another field manager.
"""

from __future__ import annotations

from typing import Any, Final

from cortex_kube.client import Api
from cortex_kube.resources import path
from cortex_operator.cluster import Forbidden, Invalid, Object, ObjectKey
from cortex_operator.cluster.refusals import USER, translated
from cortex_operator.preview.look import Look
from cortex_operator.preview.sandbox import Sandbox

from cortex_cli.planning.patches import last_applied, merge_patch, patched

_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_MANAGER: Final = "kubectl"


async def propose(api: Api, look: Look, manifest: Object, *, ask: bool) -> tuple[Object, str]:
    """The resource, and why the API server was not asked (empty: it was). `ask`: whether its namespace is there.
    Raises Invalid with the API server's words, Unavailable."""
    key = ObjectKey.of(manifest)
    live = await look.find(key)
    last = last_applied(live) if live is not None else None
    if not ask:
        return await _alone(look, key, manifest, live, last), "its namespace is not there yet"
    try:
        with translated(key, USER):
            return await _dry_run(api, key, manifest, live, last), ""
    except Forbidden as error:
        return await _alone(look, key, manifest, live, last), str(error)


async def _dry_run(api: Api, key: ObjectKey, manifest: Object, live: Object | None, last: Object | None) -> Object:
    where = path(key.api_version, key.kind, key.namespace, key.name)
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    if last is not None:
        return await api.request("PATCH", where, body=merge_patch(last, manifest), content_type=_MERGE, query=query)
    applied = {**query, "fieldManager": _manager(live), "force": "true"}
    return await api.request("PATCH", where, body=manifest, content_type=_APPLY, query=applied)


async def _alone(look: Look, key: ObjectKey, manifest: Object, live: Object | None, last: Object | None) -> Object:
    """By the rules of the in-memory store, which are those of an API server but for CEL and admission."""
    sandbox = Sandbox(look)
    if live is not None and last is not None:
        sandbox.take(patched(live, merge_patch(last, manifest)))
    else:
        await sandbox.apply(manifest, field_manager=_manager(live))
    found = sandbox.state(key)
    if found is None:
        raise Invalid(f"{key} cannot be told without the API server")
    return found


def _manager(live: Object | None) -> str:
    """Who applied the spec before: what it sets no more goes."""
    entries: list[dict[str, Any]] = ((live or {}).get("metadata") or {}).get("managedFields") or []
    own = [each["manager"] for each in entries if _sets_spec(each)]
    return str(own[0]) if own else _MANAGER


def _sets_spec(entry: dict[str, Any]) -> bool:
    applied = entry.get("operation") == "Apply" and not entry.get("subresource")
    return applied and "f:spec" in (entry.get("fieldsV1") or {})
