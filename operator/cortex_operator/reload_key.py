"""The key of the digests by which pods are reloaded: random, in a Secret of the operator's namespace.

What can be read by whoever reads a Deployment, its uid for one, would not do: with it a digest of a short password can
be guessed. The chart cannot make it either: rendered anew it would be another one, and replace pods.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import secrets
from typing import Any, Final

from cortex_kube.client import Api, ConfigError, Conflict, NotFound, Unavailable
from cortex_kube.resources import path

log = logging.getLogger(__name__)
_FIELD: Final = "key"
_BYTES: Final = 32
_AGAIN: Final = 2.0


class ReloadKey:
    """The key in Secret `name`; `value` is empty until `begin` has ended."""

    def __init__(self, api: Api, namespace: str, name: str) -> None:
        self.value = b""
        self._api, self._namespace, self._name = api, namespace, name

    async def begin(self) -> None:
        """Reads the key, and makes it when there is none; an API server that does not answer is waited for. Raises
        ConfigError for a Secret without a key, ApiError."""
        while not self.value:
            try:
                self.value = _key(await self._get() or await self._make(), self._namespace, self._name)
            except (Conflict, Unavailable) as error:
                # Conflict: another operator was faster.
                log.warning("waiting for Secret %s/%s: %s", self._namespace, self._name, error.message)
                await asyncio.sleep(_AGAIN)

    async def _get(self) -> dict[str, Any] | None:
        try:
            return await self._api.request("GET", path("v1", "Secret", self._namespace, self._name))
        except NotFound:
            return None

    async def _make(self) -> dict[str, Any]:
        body = _secret(self._namespace, self._name)
        made = await self._api.request("POST", path("v1", "Secret", self._namespace), body=body)
        log.info("made Secret %s/%s, the key of reload digests", self._namespace, self._name)
        return made


def _secret(namespace: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "datapunk-cortex"}},
        "type": "Opaque",
        "data": {_FIELD: base64.b64encode(secrets.token_bytes(_BYTES)).decode()},
    }


def _key(secret: dict[str, Any], namespace: str, name: str) -> bytes:
    try:
        key = base64.b64decode((secret.get("data") or {}).get(_FIELD, ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < _BYTES:
        raise ConfigError(
            f"Secret {namespace}/{name} has no {_FIELD!r} of {_BYTES} bytes: delete it (kubectl -n {namespace} delete "
            f"secret {name}), and the operator makes another; pods that use labelled Secrets are replaced once"
        )
    return key
