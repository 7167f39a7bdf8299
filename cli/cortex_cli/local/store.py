"""What the supervisor puts into the store: Secrets of the servers, the gateway, what the user applied."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from pathlib import Path
from typing import Any, Final

from cortex_operator.cluster.port import Cluster, Invalid, NotFound, Object, ObjectKey

from cortex_cli.local import gateway
from cortex_cli.local.applied import Applied, Sources, key_of
from cortex_cli.local.gateway import GatewayOptions

MANAGER: Final = "cortex-cli"
SECRETS: Final = {"postgres": ("cortex-lake", "dsn"), "valkey": ("cortex-state", "url")}
"""Server -> its Secret, and the key in it."""


class Store:
    """The store as `cortex` sees it."""

    def __init__(self, cluster: Cluster, remembered: Path) -> None:
        self._cluster = cluster
        self._applied = Applied.load(remembered)
        self._urls: dict[str, str] = {}
        self.urls_known = asyncio.Event()
        """Set when every server has a Secret."""

    async def restore(self) -> None:
        """Applies what was applied before."""
        await self._put()

    async def set_url(self, server: str, url: str) -> None:
        """Says where a server listens now."""
        self._urls[server] = url
        await self._put_secrets()
        if self._urls.keys() == SECRETS.keys():
            self.urls_known.set()

    async def apply(self, sources: Sources, options: dict[str, Any]) -> dict[str, str]:
        """Applies what stands in the sources, deletes what stood there before; object -> what was done, or
        `Refused: WHY`. `options` are those of the gateway that are given."""
        self._applied.gateway = GatewayOptions(**{**self._applied.gateway.to_json(), **options})
        gone = self._applied.replace(sources)
        self._applied.save()
        results = await self._put()
        return results | {str(key): await self._delete(key) for key in gone}

    async def rehearse(self, cluster: Cluster, sources: Sources) -> tuple[dict[str, str], list[ObjectKey]]:
        """What `apply` would do, done to another cluster and remembered nowhere; and the objects that it would delete,
        which are still there."""
        other = Store(cluster, self._applied.path)
        other._urls = dict(self._urls)
        gone = other._applied.replace(sources)
        return await other._put(), gone

    async def delete(self, objects: list[Object]) -> dict[str, str]:
        """Deletes objects and forgets them."""
        keys = [key_of(obj) for obj in objects]
        self._applied.remove(set(keys))
        self._applied.save()
        return {str(key): await self._delete(key) for key in keys}

    @property
    def gateway(self) -> GatewayOptions:
        """Where the gateway listens."""
        return self._applied.gateway

    async def _put(self) -> dict[str, str]:
        await self._put_secrets()
        await self._cluster.apply(gateway.deployment(self._applied.gateway), field_manager=MANAGER)
        return {str(key): await self._apply(obj) for key, obj in self._applied.objects().items()}

    async def _apply(self, obj: Object) -> str:
        try:
            return str(await self._cluster.apply(obj, field_manager=MANAGER))
        except Invalid as error:
            return f"Refused: {error}"

    async def _delete(self, key: ObjectKey) -> str:
        try:
            await self._cluster.delete(key)
        except NotFound:
            return "NotFound"
        try:
            await self._cluster.get(key)
        except NotFound:
            return "Deleted"
        return "Deleting"

    async def _put_secrets(self) -> None:
        """In every namespace that is used, unless the user brought Secrets of these names."""
        own = self._applied.objects()
        namespaces = {gateway.NAMESPACE, "default", *(key.namespace for key in own)}
        for server, url in self._urls.items():
            name, field = SECRETS[server]
            for namespace in sorted(namespaces):
                if ObjectKey("v1", "Secret", namespace, name) not in own:
                    with contextlib.suppress(Invalid):  # an object in a bad namespace is refused by itself
                        await self._cluster.apply(_secret(namespace, name, field, url), field_manager=MANAGER)


def _secret(namespace: str, name: str, field: str, value: str) -> Object:
    data = {field: base64.b64encode(value.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": data}
