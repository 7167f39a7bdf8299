"""A cluster's refusals as the end of a command: for commands that ask an API server with a kubeconfig."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cortex_kube.client import ApiError, ConfigError
from cortex_operator.cluster import Forbidden, Invalid, NamespaceTerminating, NotFound, Unauthorized, Unavailable

from cortex_cli.commands.common import fail


@contextmanager
def refused(remedy: str) -> Iterator[None]:
    """Ends the command with what the cluster, or the way to it, refuses; `remedy` follows a right that is missing."""
    try:
        yield
    except Unauthorized as error:
        fail(str(error))
    except Forbidden as error:
        fail(f"{error}; {remedy}")
    except (ApiError, ConfigError, Invalid, NamespaceTerminating, NotFound, Unavailable) as error:
        fail(str(error))
