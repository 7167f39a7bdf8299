"""The key of the digests by which pods are reloaded: random, in a Secret of the operator's namespace.

What can be read in the cluster by whoever reads a Deployment, its uid for one, would not do: with it a digest of a short
password can be guessed. The chart cannot make it either: rendered anew it would be another one, and replace pods.
"""

from __future__ import annotations

import base64
import binascii
import logging
import secrets
from collections.abc import Callable
from typing import Any, Final

from cortex_kube.client import Api, ConfigError, Conflict, NotFound
from cortex_kube.resources import path

log = logging.getLogger(__name__)
_FIELD: Final = "key"
_BYTES: Final = 32


async def reload_key(api: Api, namespace: str, name: str, fence: Callable[[], object]) -> bytes:
    """The key, made when there is none. Raises ConfigError for a Secret without one, ApiError."""
    where = path("v1", "Secret", namespace, name)
    try:
        return _read(await api.request("GET", where), namespace, name)
    except NotFound:
        pass
    fence()
    try:
        made = await api.request("POST", path("v1", "Secret", namespace), body=_secret(namespace, name))
    except Conflict:
        return _read(await api.request("GET", where), namespace, name)
    log.info("made Secret %s/%s, the key of reload digests", namespace, name)
    return _read(made, namespace, name)


def _secret(namespace: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "datapunk-cortex"}},
        "type": "Opaque",
        "data": {_FIELD: base64.b64encode(secrets.token_bytes(_BYTES)).decode()},
    }


def _read(secret: dict[str, Any], namespace: str, name: str) -> bytes:
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
