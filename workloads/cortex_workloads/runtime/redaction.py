"""Texts without the passwords of addresses.

Shields callers and logs from what libraries quote when a connection fails: the address that they were given.
"""

from __future__ import annotations

import re
from typing import Final

_AFTER_SCHEME: Final = re.compile(r"(?<=://)\S+")
_PASSWORD: Final = re.compile(r"(password|passwd)\s*=\s*(?:'(?:[^'\\]|\\.)*'\S*|\S+)", re.IGNORECASE | re.DOTALL)


def redacted(text: str) -> str:
    """The text with `***` in the place of what stands before the host in a URL, and of `password=` values."""
    return _PASSWORD.sub(r"\1=***", _AFTER_SCHEME.sub(_without_user, text))


def _without_user(found: re.Match[str]) -> str:
    # Up to the last @ of the word: a password that was not encoded may have one itself.
    _, at, host = found[0].rpartition("@")
    return f"***@{host}" if at else host
