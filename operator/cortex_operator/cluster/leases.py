"""One Lease of an API server: read, and replaced by compare-and-set.

Shields the election from requests: of two that replace the same version one gets Conflict.
"""

from __future__ import annotations

from typing import Final

from cortex_kube import client as kube
from cortex_kube.client import Api
from cortex_kube.resources import path

from cortex_operator.cluster.port import Object, ObjectKey
from cortex_operator.cluster.refusals import translated

API_VERSION: Final = "coordination.k8s.io/v1"
KIND: Final = "Lease"


class LeaseStore:
    """The Lease `name` in `namespace`. No request takes longer than `timeout` seconds. The caller closes `api`."""

    def __init__(self, api: Api, namespace: str, name: str, timeout: float) -> None:
        self.key = ObjectKey(API_VERSION, KIND, namespace, name)
        self._api = api
        self._timeout = timeout

    async def read(self) -> Object | None:
        """The Lease as it is stored now; None when there is none. Raises Forbidden, Unavailable."""
        with translated(self.key):
            try:
                return await self._api.request("GET", self._path(self.key.name), timeout=self._timeout)
            except kube.NotFound:
                return None

    async def write(self, spec: Object, over: Object | None) -> Object:
        """Replaces `over`, as it was read or written last, by the same with `spec`; creates the Lease for None.
        Raises Conflict when that is not what is stored, NotFound, NamespaceTerminating, Forbidden, Unavailable."""
        meta = over["metadata"] if over else {"namespace": self.key.namespace, "name": self.key.name}
        lease = {"apiVersion": API_VERSION, "kind": KIND, "metadata": meta, "spec": spec}
        method, where = ("PUT", self._path(self.key.name)) if over else ("POST", self._path())
        with translated(self.key):
            return await self._api.request(method, where, body=lease, timeout=self._timeout)

    def _path(self, name: str | None = None) -> str:
        return path(API_VERSION, KIND, self.key.namespace, name)
