"""The file of `spec.caBundle` in a pod, and the variables by which our clients find it.

Shields everybody else from how TLS libraries are told whom to trust: OpenSSL (Python's `ssl`: redis, httpx), libpq
(psycopg) and gRPC (traces) each have a variable of their own.
"""

from __future__ import annotations

from typing import Any, Final

from cortex_kinds.trust import CABundle

_VOLUME: Final = "ca-bundle"
_FOLDER: Final = "/etc/cortex/ca-bundle"
_FILE: Final = "ca.crt"
_VARIABLES: Final = ("SSL_CERT_FILE", "PGSSLROOTCERT", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")


def trust_env(bundle: CABundle | None) -> dict[str, str]:
    """The variables."""
    return dict.fromkeys(_VARIABLES, f"{_FOLDER}/{_FILE}") if bundle is not None else {}


def trust_mounts(bundle: CABundle | None) -> list[dict[str, Any]]:
    """The container's mount: a folder, as a single file would not follow when the bundle changes."""
    return [{"name": _VOLUME, "mountPath": _FOLDER, "readOnly": True}] if bundle is not None else []


def trust_volumes(bundle: CABundle | None) -> list[dict[str, Any]]:
    """The pod's volume."""
    if bundle is None:
        return []
    kind, ref = bundle.source
    field, name = ("configMap", "name") if kind == "ConfigMap" else ("secret", "secretName")
    return [{"name": _VOLUME, field: {name: ref.name, "items": [{"key": ref.key, "path": _FILE}]}}]
