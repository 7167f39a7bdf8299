"""Numbers in messages: one pod is, two pods are. Pure; each takes the words for one and for several."""

from __future__ import annotations


def counted(number: int, one: str, several: str) -> str:
    """`1 pod is`, `2 pods are`."""
    return f"{number:,} {one if number == 1 else several}"


def share(some: int, whole: int, one: str, several: str) -> str:
    """`0 of 1 pod is`, `1 of 2 pods are`."""
    return f"{some:,} of {counted(whole, one, several)}"


def every(number: int, one: str, several: str) -> str:
    """`the pod is`, `all 2 pods are`."""
    return f"the {one}" if number == 1 else f"all {counted(number, one, several)}"
