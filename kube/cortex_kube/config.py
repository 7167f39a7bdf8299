"""How to reach and be known to a cluster: a kubeconfig, or the service account of the pod.

Shields the client from where credentials come from and from their ageing: a pod's token file rotates, tokens of exec
plugins expire. Client certificates are loaded once.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Final, cast
from urllib.request import getproxies

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, kube_config
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

from cortex_kube.errors import ConfigError

_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HOST: Final = "KUBERNETES_SERVICE_HOST"
_RELOAD_SECONDS: Final = 60.0


async def load(kubeconfig: Path | None, context: str | None) -> Configuration:
    """Of the file given, else of the pod's service account, else of KUBECONFIG or ~/.kube/config. Raises
    ConfigError."""
    if kubeconfig is None and os.environ.get(_HOST):
        made = _service_account()
    else:
        made = await _Kubeconfig(str(kubeconfig) if kubeconfig else _default_files(), context).load()
    # Many clusters' own CAs lack the extensions that newer Pythons' strict mode asks for; the chain is still verified.
    made.disable_strict_ssl_verification = True
    # Where the environment names no proxy, nothing is gained by looking there anew, in a thread, for each request.
    made.client_session_kwargs = {"trust_env": bool(getproxies())}
    return made


def namespace_of(kubeconfig: Path | None, context: str | None) -> str:
    """The namespace of what names none: that of the context, or of the pod; else `default`."""
    if kubeconfig is None and os.environ.get(_HOST):
        told = _SERVICE_ACCOUNT / "namespace"
        return told.read_text().strip() if told.is_file() else "default"
    files = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    listed: Any = kube_config.list_kube_config_contexts
    if not _any_exists(files):
        return "default"
    try:
        contexts, active = listed(files)
    except Exception:
        return "default"  # to connect says what is wrong with the file
    chosen = next((each for each in contexts if each["name"] == context), active) if context else active
    return str((chosen or {}).get("context", {}).get("namespace") or "default")


def _service_account() -> Configuration:
    made = Configuration()
    token, ca = _SERVICE_ACCOUNT / "token", _SERVICE_ACCOUNT / "ca.crt"
    try:
        loader: Any = InClusterConfigLoader(token_filename=str(token), cert_filename=str(ca))  # type: ignore[no-untyped-call]
        loader.load_and_set(made)
    except Exception as error:
        raise ConfigError(
            f"the pod's service account {_SERVICE_ACCOUNT} cannot be used: {_line(error)}; "
            "set automountServiceAccountToken: true in the pod, or name a kubeconfig"
        ) from error
    return made


def _default_files() -> str:
    named = os.environ.get("KUBECONFIG", "")
    files = named or str(Path.home() / ".kube" / "config")
    if not named and not Path(files).is_file():
        raise ConfigError(
            f"no cluster is configured: there is no {files}, KUBECONFIG is not set, and this is no pod; "
            "set KUBECONFIG to the path of a kubeconfig"
        )
    return files


class _Kubeconfig:
    """Kubeconfig files, as KUBECONFIG names them (several: joined by a colon)."""

    def __init__(self, files: str, context: str | None) -> None:
        self._files, self._context = files, context
        self._loader: Any = None
        self._lock = asyncio.Lock()
        self._read = 0.0

    async def load(self) -> Configuration:
        if not _any_exists(self._files):
            raise ConfigError(f"there is no kubeconfig {self._files}: set KUBECONFIG to the path of one that exists")
        made = Configuration()
        try:
            await self._into(made)
        except Exception as error:
            raise ConfigError(
                f"the kubeconfig {self._files} cannot be used: {_line(error)}; correct it, or set KUBECONFIG to another"
            ) from error
        made.refresh_api_key_hook = cast(Any, self._refresh)
        return made

    async def _into(self, made: Configuration) -> None:
        load: Any = kube_config.load_kube_config
        self._loader = await load(self._files, self._context, made, persist_config=False)
        self._read = time.monotonic()
        user: Any = self._loader._user or {}
        if "exec" in user and not (made.api_key or made.cert_file):
            raise ValueError(f"the plugin {user['exec']['command']} gave no credentials (run it to see why)")

    async def _refresh(self, made: Configuration) -> None:
        """Before each request. Raises ConfigException."""
        async with self._lock:
            try:
                await self._renew(made)
            except Exception as error:
                raise ConfigException(f"the kubeconfig {self._files} gives no credentials: {_line(error)}") from error

    async def _renew(self, made: Configuration) -> None:
        user: Any = self._loader._user or {}
        if "exec" in user and hasattr(self._loader, "exec_plugin_expiry"):
            # Runs the plugin only when what it gave is about to expire.
            await self._loader.load_from_exec_plugin()
            made.api_key["BearerToken"] = self._loader.token
        elif "tokenFile" in user and time.monotonic() - self._read > _RELOAD_SECONDS:
            await self._into(made)


def _any_exists(files: str) -> bool:
    return any(Path(path).expanduser().is_file() for path in files.split(os.pathsep) if path)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
