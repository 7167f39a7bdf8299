"""Which servers the functions work on: Valkey and Redis are told apart, what is neither is refused by its name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from cortex_workloads.runtime.errors import FailedPrecondition

TESTED: Final = {"valkey": (9,), "redis": (7,)}
"""Major versions that the tests run on; `make test` starts them."""
_LEAST: Final = {"valkey": (7, 2), "redis": (7, 0)}
# Fields of INFO by which servers that look like Redis are known.
_OTHERS: Final = {"dragonfly_version": "Dragonfly", "keydb_version": "KeyDB", "garnet_version": "Garnet"}

_log = logging.getLogger("cortex.state")


def check(info: Mapping[str, Any]) -> str:
    """The server's name and version, from its INFO. Raises FailedPrecondition (`StateUnsupported`); logs when it is one
    that should work and is not tested."""
    for field, other in _OTHERS.items():
        if field in info:
            raise unsupported(f"it is {other} {info[field]}")
    name = "valkey" if "valkey_version" in info else "redis"
    version = str(info.get(f"{name}_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < _LEAST[name]:
        raise unsupported(f"it is {name.capitalize()} {version}")
    if numbers[0] not in TESTED[name]:
        _log.warning("%s %s is not tested: %s are", name.capitalize(), version, describe())
    return f"{name.capitalize()} {version}"


def describe() -> str:
    """The tested servers in words."""
    return " and ".join(f"{name.capitalize()} {major}" for name, majors in TESTED.items() for major in majors)


def unsupported(why: str) -> FailedPrecondition:
    """The error of a server that is not one of them."""
    return FailedPrecondition(
        f"the server at CORTEX_STATE_URL is none that the state works on: {why}",
        remedy="use Valkey 7.2 or newer, or Redis 7.0 or newer",
        reason="StateUnsupported",
    )
