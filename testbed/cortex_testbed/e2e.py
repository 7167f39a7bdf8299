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
from typing import Final

from cortex_testbed import bed, binaries
from cortex_testbed.bed_keeper import ERROR, end_in_order, say
from cortex_testbed.errors import BedError
from cortex_testbed.node import packages
from cortex_testbed.node.claim import Claim, holder, is_clean

DOWN_SECONDS: Final = 60.0


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
    elif (now := holder()) and now.directory == directory:
        raise BedError(f"the bed is just starting or ending (process {now.keeper}): try again when that is done")
    directory.mkdir(parents=True, exist_ok=True)
    _follow(_start_keeper(directory), directory)
    return bed.attach(directory)


def _follow(keeper: subprocess.Popen[str], directory: Path) -> None:
    """Passes on what the keeper says until the bed is up. Raises BedError with what it says when it is not."""
    reasons = []
    try:
        assert keeper.stdout is not None
        for line in keeper.stdout:  # ends when the keeper has no more to say: it is up, or gone
            if line.startswith(ERROR):
                reasons.append(line.removeprefix(ERROR).rstrip("\n"))
            else:
                say(line.rstrip("\n"))
    except BaseException:
        keeper.terminate()
        keeper.wait(DOWN_SECONDS)
        raise
    if reasons:
        raise BedError("\n".join(reasons))
    if not bed.is_up(directory):
        raise BedError(f"the keeper ended ({keeper.wait()}): see {bed.keeper_log(directory)}")
    keeper.returncode = 0  # it outlives this process


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


def _start_keeper(directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cortex_testbed.bed_keeper", str(directory)]
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


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cortex_testbed.e2e", description=__doc__)
    parser.add_argument("--directory", type=lambda path: Path(path).absolute(), default=bed.DIRECTORY)
    actions = parser.add_subparsers(dest="action", required=True, metavar="up|down|status|run")
    for name in ("up", "down", "status"):
        actions.add_parser(name)
    actions.add_parser("run").add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """The exit status."""
    arguments = _arguments(words)
    end_in_order()
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
    except BedError as error:
        print(f"e2e: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
