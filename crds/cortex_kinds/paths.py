"""Paths into a manifest."""

from __future__ import annotations

Path = tuple[str | int, ...]
"""Keys and positions from the root: `("spec", "nodes", 2, "name")`."""


def path_text(path: Path) -> str:
    """`("spec", "nodes", 2, "name")` -> `spec.nodes[2].name`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
