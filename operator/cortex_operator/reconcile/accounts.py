"""A ServiceAccount of a resource's own that no pod needs any more."""

from __future__ import annotations

from collections.abc import Iterable

from cortex_operator.cluster import Cluster, Object, ObjectKey
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.serviceaccount import needs_service_account
from cortex_operator.reconcile.claims import is_rolled_out
from cortex_operator.reconcile.observe import find_uid
from cortex_operator.reconcile.pods import has_ended


async def find_old_account(
    cluster: Cluster,
    part: Part,
    name: str,
    deployment: Object | None,
    pods: Iterable[Object],
    jobs: Iterable[Object] = (),
) -> tuple[tuple[ObjectKey, str], ...]:
    """The ServiceAccount `name` with its uid, where the resource names another one; not while a pod that has not ended,
    a Job of `jobs` or the Deployment names it, or while the Deployment may make pods of the template before: without
    their ServiceAccount none can be made."""
    if needs_service_account(part.resource.spec, name) or not is_rolled_out(deployment):
        return ()
    makers = [*jobs, *([deployment] if deployment is not None else [])]
    users = (*(maker["spec"]["template"] for maker in makers), *(pod for pod in pods if not has_ended(pod)))
    if any((user.get("spec") or {}).get("serviceAccountName") == name for user in users):
        return ()
    key = ObjectKey("v1", "ServiceAccount", part.resource.metadata.namespace, name)
    uid = await find_uid(cluster, part, key)
    return ((key, uid),) if uid else ()
