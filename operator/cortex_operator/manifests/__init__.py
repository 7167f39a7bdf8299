"""Builders: a resource and the release's settings in, Kubernetes objects (dicts) out; no I/O, the same every time."""

from cortex_operator.manifests.index import index_objects, ingest_job
from cortex_operator.manifests.release import ReleaseSettings
from cortex_operator.manifests.workflow import workflow_objects

__all__ = ["ReleaseSettings", "index_objects", "ingest_job", "workflow_objects"]
