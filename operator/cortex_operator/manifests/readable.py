"""Whether workloads can read the addresses in a Secret at all: of the Lake (libpq), of the shared state (redis). Pure.

False is certain: they end at their start with such a value (`runtime/lake/pool.py`, `runtime/progress.py`). True is
not: they refuse more. A test holds both against each other.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

_SPACES: Final = r"[ \t\n\v\f\r]*+"
_QUOTED: Final = r"'(?:[^'\\]|\\.)*+'"
_PLAIN: Final = r"(?!')(?:[^ \t\n\v\f\r\\]|\\.)*+\\?(?![^ \t\n\v\f\r])"
# Each part takes all that it can and gives nothing back: a long value that is wrong costs no more than a right one.
_PAIRS: Final = re.compile(
    rf"{_SPACES}(?:[a-z][a-z0-9_]*+{_SPACES}={_SPACES}(?:{_QUOTED}|{_PLAIN}){_SPACES})++", re.DOTALL
)
_URL: Final = re.compile(r"postgres(?:ql)?://(?:[^@/]*@)?([^/?]*)[^?]*(?:\?(.*))?", re.DOTALL)
_TWO_WORDS: Final = re.compile(r"[^ :\[\]] +[^ :\[\]]")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")


def may_be_dsn(text: str) -> bool:
    """A PostgreSQL connection string: a URL, or `host=... port=...`."""
    url = _URL.fullmatch(text)
    if url is None:
        return _PAIRS.fullmatch(text) is not None
    hosts, options = url[1], url[2] or ""
    if _BAD_ESCAPE.search(text) or any(map(_TWO_WORDS.search, hosts.split(","))):
        return False
    # An option takes the place of the ports.
    return "port" in unquote(options) or all(map(_may_have_port, hosts.split(",")))


def may_be_state_url(text: str) -> bool:
    """A redis:// or rediss:// URL."""
    return text.startswith(("redis://", "rediss://"))


def _may_have_port(host: str) -> bool:
    port = unquote(host.rpartition("]")[2].partition(":")[2]).strip()
    return not port or (port.isdecimal() and 0 < int(port.lstrip("0")[:6] or 0) < 65536)
