"""What is known for a short while of Secrets, ConfigMaps and claims that a spec names and that are not watched.

Shields the API server from the same question on each pass over each resource. It holds no value of a Secret (but
the hosts and ports in it), and nothing of what was not found: that is asked for anew each time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from cortex_operator.cluster import Object, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests.addresses import Address, lake_addresses, state_addresses
from cortex_operator.manifests.readable import may_be_dsn, may_be_state_url

RELOAD: Final = {"cortex.datapunk.io/reload": "true"}
"""The label of a Secret or ConfigMap whose changes replace the pods that use it."""
Read = Callable[[ObjectKey], Awaitable[Object | None]]
"""Reads an object past every cache; None: it is not there."""


@dataclass(frozen=True)
class Facts:
    """An object that was there. `filled`: those of its `keys` that have a value. `lake`, `state`: hosts and ports of
    the addresses in a Secret. `unreadable`: those of `keys` that hold no such address."""

    keys: frozenset[str]
    filled: frozenset[str]
    digests: Mapping[str, str] | None = None
    """A keyed digest of each value; None: it is not labelled RELOAD, or nothing is reloaded."""
    lake: tuple[Address, ...] = ()
    state: tuple[Address, ...] = ()
    unreadable: frozenset[str] = frozenset()


class Named:
    """Facts that are at most `seconds` old, of at most `most` objects; shared by the resources that name them. `secret`
    is the key of the digests; without it there are none."""

    def __init__(
        self,
        seconds: float = 60.0,
        most: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        secret: bytes = b"",
    ) -> None:
        self._seconds, self._most, self._clock, self._secret = seconds, most, clock, secret
        self._known: dict[ObjectKey, tuple[float, Facts]] = {}
        self._users: dict[ObjectKey, tuple[frozenset[ResourceKey], frozenset[ResourceKey]]] = {}
        self._told = 0

    @property
    def reloads(self) -> bool:
        """Whether changes of labelled objects are of interest."""
        return bool(self._secret)

    async def look(self, key: ObjectKey, user: ResourceKey, read: Read) -> Facts | None:
        """The object's facts, for a resource that uses it; None: it is not there. Raises what `read` raises."""
        recent, earlier = self._users.get(key, (frozenset(), frozenset()))
        if self.reloads and user not in recent:
            self._users[key] = (recent | {user}, earlier)
        until, known = self._known.get(key, (0.0, None))
        if known is not None and self._clock() < until:
            return known
        asked, told = self._clock(), self._told
        if self.reloads:
            # Who does not ask any more is forgotten with the look after the next.
            self._users[key] = (frozenset({user}), recent)
        found = await read(key)
        self.forget(key)
        if found is None:
            return None
        known = facts(found, self._secret)
        # What was read before a change was told is not kept.
        if told == self._told:
            if len(self._known) >= self._most:
                self.forget(next(iter(self._known)))
            self._known[key] = (asked + self._seconds, known)
        return known

    def forget(self, key: ObjectKey) -> None:
        """What is known of the object may not be so any more."""
        self._known.pop(key, None)

    def leave(self, user: ResourceKey) -> None:
        """The resource is gone: it uses nothing any more."""
        gone = frozenset({user})
        for key, (recent, earlier) in list(self._users.items()):
            if user in recent or user in earlier:
                self._users[key] = (recent - gone, earlier - gone)
                if not any(self._users[key]):
                    del self._users[key]

    def tell(self, key: ObjectKey) -> frozenset[ResourceKey]:
        """The object has changed. Returns who asked for it lately."""
        self._told += 1
        self.forget(key)
        recent, earlier = self._users.pop(key, (frozenset(), frozenset()))
        return recent | earlier


def facts(obj: Object, secret: bytes) -> Facts:
    """What is kept of an object."""
    data = obj.get("data") or {}
    values = {**data, **(obj.get("binaryData") or {})}
    filled = (key for key, value in data.items() if _is_filled(value, obj["kind"]))
    known = Facts(frozenset(values), frozenset(filled))
    if obj["kind"] == "Secret":
        dsn, url = _text(data, "dsn"), _text(data, "url")
        wrong = {"dsn": dsn and not may_be_dsn(dsn), "url": url and not may_be_state_url(url)}
        unreadable = frozenset(key for key, is_wrong in wrong.items() if is_wrong)
        known = replace(known, lake=lake_addresses(dsn), state=state_addresses(url), unreadable=unreadable)
    if not secret or not RELOAD.items() <= (obj["metadata"].get("labels") or {}).items():
        return known
    place = (obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])
    digests = {key: digest(secret, *place, key, value) for key, value in values.items()}
    return replace(known, digests=digests)


def digest(secret: bytes, *words: str) -> str:
    """16 hex digits that tell nobody anything who has not the key: a plain digest of a short value could be guessed.
    Where the value stands is part of `words`: equal values do not look equal."""
    return hmac.new(secret, "\0".join(words).encode(), hashlib.sha256).hexdigest()[:16]


def _is_filled(value: str, kind: str) -> bool:
    try:
        return bool(base64.b64decode(value, validate=True) if kind == "Secret" else value)
    except (binascii.Error, ValueError):
        return False


def _text(data: dict[str, str], key: str) -> str:
    try:
        return base64.b64decode(data.get(key, ""), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
