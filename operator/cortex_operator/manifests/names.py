"""Names of the objects of a resource, and the addresses that follow from them: DNS labels of at most 63 characters."""

from __future__ import annotations

import hashlib
from typing import Final

MOST: Final = 63

SEARCH_PORT: Final = 50052
GRAPH_PORT: Final = 50053
CONTROL_PORT: Final = 50059
METRICS_PORT: Final = 9090


def search_name(index: str) -> str:
    """The Deployment, ServiceAccount and Service of an index."""
    return bounded(index, "-search")


def search_headless_name(index: str) -> str:
    """The headless Service of an index."""
    return bounded(index, "-search-headless")


def ingest_name(index: str, revision: str) -> str:
    """The Job that embeds for a revision of an index."""
    return bounded(index, f"-ingest-{revision}")


def graph_name(workflow: str) -> str:
    """The Deployment, ServiceAccount and Service of a workflow."""
    return bounded(workflow, "-graph")


def graph_headless_name(workflow: str) -> str:
    """The headless Service of a workflow."""
    return bounded(workflow, "-graph-headless")


def search_target(index: str, namespace: str) -> str:
    """The gRPC target of an index's pods."""
    return f"dns:///{search_headless_name(index)}.{namespace}.svc:{SEARCH_PORT}"


def graph_target(workflow: str, namespace: str) -> str:
    """The gRPC target of a workflow's pods."""
    return f"dns:///{graph_headless_name(workflow)}.{namespace}.svc:{GRAPH_PORT}"


def bounded(name: str, suffix: str) -> str:
    """`name` + `suffix`; a name that is too long is cut and told apart by a digest of the whole."""
    if len(name) + len(suffix) <= MOST:
        return name + suffix
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: MOST - len(suffix) - len(digest) - 1].rstrip('-')}-{digest}{suffix}"
