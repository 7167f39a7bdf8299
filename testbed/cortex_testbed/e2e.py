"""The bed of the end-to-end tests as a command.

    python -m cortex_testbed.e2e up | down | status | run COMMAND...

`up` leaves it running. `run` brings it up, runs the command and takes it down again; KEEP=1 leaves it up.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from cortex_testbed import bed, binaries
from cortex_testbed.errors import BedError
from cortex_testbed.node import packages
from cortex_testbed.node.claim import Claim, holder, is_clean

DOWN_SECONDS: Final = 60.0
STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def say(line: str) -> None:
    """A line for whoever waits."""
    print(line, flush=True)


def up(directory: Path) -> bed.Bed:
    """Returns when the node is Ready; at once when it is. Raises BedError."""
    packages.ensure(say)
    binaries.ensure(binaries.NODE, say)
    if bed.is_up(directory):
        one = bed.attach(directory)
        if not one.dead:
            return one
        say(f"{', '.join(one.dead)} of the bed that is up ended: taking it down, and up again")
        down(directory)
    directory.mkdir(parents=True, exist_ok=True)
    bed.write_state(directory)
    keeper = _start_keeper(directory)
    try:
        assert keeper.stdout is not None
        for line in keeper.stdout:  # ends when the keeper has no more to say: it is up, or gone
            say(line.rstrip("\n"))
    except BaseException:
        keeper.terminate()
        keeper.wait(DOWN_SECONDS)
        raise
    state = bed.read_state(directory)
    if "ready" not in state:
        log = bed.keeper_log(directory)
        raise BedError(state.get("error") or f"the keeper ended ({keeper.wait()}): see {log}")
    keeper.returncode = 0  # it outlives this process
    return bed.attach(directory)


def down(directory: Path) -> None:
    """Returns when every trace is gone; also of a bed that was killed. Raises BedError."""
    now = holder()
    if now and now.directory != directory:
        say(f"Not up here; the bed of {now.directory} is, and stays")
        return
    if is_clean():
        say("No bed is up, and none has left anything on this machine")
        return
    if now:
        _end(now.keeper)
    claim = Claim()
    left = claim.take()
    bed.clean(left, say)
    claim.write(None)
    claim.release()
    bed.write_state(directory)
    say("Down: nothing of the bed is left on this machine")


def status(directory: Path) -> None:
    """Says how it stands. Raises BedError when it is not up."""
    one = bed.attach(directory)
    say(f"export KUBECONFIG={one.kubeconfig}\nLogs: {' '.join(map(str, one.logs))}")
    if one.dead:
        say(f"Ended by itself: {', '.join(one.dead)}")
    say(one.kubectl("get", "nodes,pods", "--all-namespaces", "--output=wide").rstrip())


def run(directory: Path, command: Sequence[str]) -> int:
    """The exit status of the command."""
    begin = time.monotonic()
    up(directory)
    say(f"== bed up in {time.monotonic() - begin:.0f} s")
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        if os.environ.get("KEEP"):
            say(f"KEEP is set, the bed stays: export KUBECONFIG={directory / 'plane' / 'admin.kubeconfig'}")
        else:
            down(directory)


def keep(directory: Path) -> None:
    """The keeper: starts all, stays for as long as the bed, takes all away. Its output ends when the bed is up."""
    claim = Claim()
    try:
        plane, node = bed.start(directory, claim, say)
        bed.write_state(directory, ready="yes")
        os.dup2(2, 1)
        while True:
            pidfds = [*plane.processes.pidfds(), *node.processes.pidfds()]
            select.select(pidfds, [], [])
            say(f"{time.ctime()} ended by itself: {', '.join(bed.attach(directory).dead)}; the rest goes on")
            for pidfd in pidfds:
                os.close(pidfd)
    except BedError as error:
        bed.write_state(directory, error=str(error))
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


def _start_keeper(directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cortex_testbed.e2e", "--directory", str(directory), "keep"]
    with bed.keeper_log(directory).open("w") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )


def _end(keeper: int) -> None:
    try:
        pidfd = os.pidfd_open(keeper)
    except ProcessLookupError:
        return
    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    ended, _, _ = select.select([pidfd], [], [], DOWN_SECONDS)
    os.close(pidfd)
    if not ended:
        raise BedError(f"the keeper, process {keeper}, does not end within {DOWN_SECONDS:.0f} s: see its log")


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cortex_testbed.e2e", description=__doc__)
    parser.add_argument("--directory", type=lambda path: Path(path).absolute(), default=bed.DIRECTORY)
    actions = parser.add_subparsers(dest="action", required=True, metavar="up|down|status|run")
    for name in ("up", "down", "status", "keep"):
        actions.add_parser(name)
    actions.add_parser("run").add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """The exit status."""
    arguments = _arguments(words)
    for number in STOPS:
        signal.signal(number, _stop)
    try:
        match arguments.action:
            case "up":
                say(f"Up: export KUBECONFIG={up(arguments.directory).kubeconfig}")
            case "down":
                down(arguments.directory)
            case "status":
                status(arguments.directory)
            case "run":
                return run(arguments.directory, arguments.command)
            case "keep":
                keep(arguments.directory)
    except BedError as error:
        print(f"e2e: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
