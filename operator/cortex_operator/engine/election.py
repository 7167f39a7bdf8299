"""Who leads: waits for the Lease, renews it, and ends the process before somebody else may take it.

Shields the engine from there being others. What ends the process does not depend on the event loop: a thread looks at
the term, and so does each write, as a process that was stopped may wake up in any of its threads first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from typing import Final, NoReturn

from cortex_operator.cluster import Conflict
from cortex_operator.engine.lease import Lease, LeaseLost, Terms, monotonic

log = logging.getLogger(__name__)

EXIT_CODE: Final = 4
_LOG_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 1.0


def _exit() -> NoReturn:
    os._exit(EXIT_CODE)


class Election:
    """One contender's part in it: `win`, then work, then `resign`. `exit` ends the process at once."""

    def __init__(self, lease: Lease, terms: Terms, exit: Callable[[], object] = _exit) -> None:
        self.lease, self._terms, self._exit = lease, terms, exit
        self._over = threading.Event()
        self._tried = monotonic()
        self._trouble = ""
        self._keeping: asyncio.Task[None] | None = None

    async def win(self) -> None:
        """Returns when the Lease is held, which is renewed from then on; when it is lost the process ends. Whatever
        keeps it from being held is logged, and waited for."""
        said = ""
        while not await self._try():
            if (now := self.follows()) != said:
                said = now
                log.info("%s", now)
            await asyncio.sleep(self._terms.look)
        log.info("leading: %s is held by %s", self.lease.key, self.lease.identity)
        threading.Thread(target=self._guard, name="lease", daemon=True).start()
        self._keeping = asyncio.create_task(self._keep())

    async def resign(self) -> None:
        """Gives the Lease to others; nothing is written any more."""
        self._over.set()
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        try:
            async with asyncio.timeout(self._terms.renewal * 2):
                await self.lease.release()
        except LeaseLost as error:
            log.info("%s was not released: %s", self.lease.key, error)
        except Exception as error:
            log.warning("others wait %d s: %s was not released: %s", self._terms.duration, self.lease.key, error)

    def fence(self) -> None:
        """Before each write: ends the process when the Lease is not held."""
        if not self.lease.held():
            self._end("its term has ended")

    def follows(self) -> str:
        """Whom this one waits for, as a sentence; empty when it leads."""
        if self.lease.held():
            return ""
        if self._trouble:
            return f"follower: {self.lease.key} cannot be had: {self._trouble}"
        return f"follower: {self.lease.key} is held by {self.lease.holder or 'nobody'}"

    def stuck(self) -> str:
        """Why nobody asks for the Lease any more, as a sentence; empty when it is asked for."""
        silent = monotonic() - self._tried
        if silent > 3 * self._terms.duration:
            return f"{self.lease.key} has not been asked for for {silent:.0f} s"
        return ""

    async def _try(self) -> bool:
        try:
            async with asyncio.timeout(self._terms.renewal * 2):
                await self.lease.acquire()
            self._trouble = ""
        except Conflict:
            log.debug("another one was faster to take %s", self.lease.key)
        except Exception as error:
            self._note(error)
        self._tried = monotonic()
        return self.lease.held()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._terms.look if self._trouble else self._terms.renewal)
            try:
                async with asyncio.timeout(self._terms.renewal * 2):
                    await self.lease.renew()
                self._trouble = ""
            except LeaseLost as error:
                self._end(str(error))
            except Exception as error:
                self._note(error)
            self._tried = monotonic()

    def _note(self, error: Exception) -> None:
        said = str(error) or "no answer in time"
        if not self._trouble:
            log.warning("%s: %s", self.lease.key, said)
        self._trouble = said

    def _guard(self) -> None:
        # Not for the whole of what remains: the clock may run while the thread does not.
        while not self._over.wait(min(_LOOK_SECONDS, max(0.0, self.lease.remaining))):
            if not self.lease.held() and not self._over.is_set():
                self._end(f"not renewed for {self._terms.term:.0f} s: {self._trouble or 'the process stood still'}")

    def _end(self, why: str) -> None:
        # Aside: whoever stands still may hold the log's lock, or its reader may have gone.
        said = ("lost %s: %s; the operator ends at once, so that there is one leader", self.lease.key, why)
        telling = threading.Thread(target=log.critical, args=said, daemon=True)
        telling.start()
        telling.join(_LOG_SECONDS)
        self._exit()
