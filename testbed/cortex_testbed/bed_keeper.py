"""The process that a bed lives in: starts all, stays for as long as the bed, takes all away.

    python -m cortex_testbed.bed_keeper DIRECTORY

Its output ends when the bed is up; SIGTERM ends it. When it is killed, the bed's processes die with it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from cortex_testbed import bed
from cortex_testbed.errors import BedError
from cortex_testbed.node.claim import Claim, holder

ERROR: Final = "error: "
"""Begins the lines that say why the bed does not come up."""
STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def say(line: str) -> None:
    """A line for whoever waits."""
    print(line, flush=True)


def end_in_order() -> None:
    """Lets signals end this process as an exception does, so that what must be undone is."""
    for number in STOPS:
        signal.signal(number, _stop)


def keep(directory: Path) -> None:
    """Does not return before a signal, or an error that it says."""
    claim = Claim()
    try:
        plane, node = bed.start(directory, claim, say)
        bed.mark_up(directory)
        os.dup2(2, 1)
        while True:
            pidfds = [*plane.processes.pidfds(), *node.processes.pidfds()]
            select.select(pidfds, [], [])
            dead = ", ".join(bed.Bed(directory, plane.kubeconfig).dead)
            say(f"{time.ctime()} ended by itself: {dead}; the rest goes on")
            for pidfd in pidfds:
                os.close(pidfd)
    except BedError as error:
        for line in str(error).splitlines():
            say(f"{ERROR}{line}")
    finally:
        _leave(claim)


def _leave(claim: Claim) -> None:
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    now = holder()
    if now and now.keeper == os.getpid():
        bed.clean(now, say)
        claim.write(None)
    claim.release()


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    end_in_order()
    keep(Path(sys.argv[1]))
