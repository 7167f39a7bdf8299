"""Caches: what was computed or read once is not computed again, within bounds in bytes."""
