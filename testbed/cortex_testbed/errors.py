"""The one error of the test bed."""

from __future__ import annotations


class BedError(RuntimeError):
    """The test bed cannot do it; the message names the thing, the reason and the remedy."""
