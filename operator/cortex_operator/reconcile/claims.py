"""Templates of resource claims that no pod needs any more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cortex_operator.cluster import Cluster, Object, ObjectKey
from cortex_operator.manifests.claim import is_claimed, template_name
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.optional import CLAIM_TEMPLATE
from cortex_operator.manifests.release import ReleaseSettings


async def find_old_templates(
    cluster: Cluster, part: Part, name: str, release: ReleaseSettings, deployment: Object | None, pods: Iterable[Object]
) -> tuple[tuple[ObjectKey, str], ...]:
    """Those of the resource but for the one that it asks for now, with their uid; none while a pod or the Deployment
    names it, or while the Deployment may make pods of the template before: they could not start."""
    if CLAIM_TEMPLATE not in release.served or not is_rolled_out(deployment):
        return ()
    meta, gpu = part.resource.metadata, part.resource.spec.gpu
    made = [deployment["spec"]["template"]] if deployment is not None else []
    kept = {each for pod in (*pods, *made) for each in _named(pod)}
    if gpu is not None and is_claimed(gpu):
        kept.add(template_name(name, gpu))
    found = await cluster.list(*CLAIM_TEMPLATE, namespace=meta.namespace, labels=part.selector)
    mine = [obj for obj in found if any(o["uid"] == meta.uid for o in obj["metadata"].get("ownerReferences") or ())]
    return tuple((ObjectKey.of(o), o["metadata"]["uid"]) for o in mine if o["metadata"]["name"] not in kept)


def is_rolled_out(deployment: Object | None) -> bool:
    """Whether the Deployment makes no pods of a template before; also when there is none."""
    if deployment is None:
        return True
    status = deployment.get("status") or {}
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return bool(seen and status.get("updatedReplicas", 0) == status.get("replicas", 0))


def _named(pod: Object) -> Iterator[str]:
    for claim in (pod.get("spec") or {}).get("resourceClaims") or ():
        yield claim.get("resourceClaimTemplateName", "")
