"""What a plan says beside the resources: what it could not read or ask, and what that means. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

_NAMED: Final = ("ConfigMap", "Secret")


def unread(kinds: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """One note of all that the user may not read. `kinds`: by namespace, empty for those of the whole cluster."""
    if not kinds:
        return
    places = "; ".join(
        f"{', '.join(sorted(set(found)))} {f'in namespace {place}' if place else 'in all namespaces'}"
        for place, found in kinds.items()
    )
    named = [f"{kind}s" for kind in _NAMED if any(kind in found for found in kinds.values())]
    taken = f"; {' and '.join(named)} that are named are taken to be there" if named else ""
    yield f"you may not read (RBAC get, list): {places}{taken}"


def unasked(why: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Of which resources the API server was not asked, by the reason."""
    for reason, keys in why.items():
        yield f"defaults and admission (CEL, policies) are not the API server's own word: {reason}: {', '.join(keys)}"


def beside(others: Sequence[str]) -> Iterator[str]:
    """What is in the files and not planned."""
    if others:
        yield f"not planned, as other kinds are: {', '.join(others)}"
