"""The command of the test bed: python -m cortex_testbed up | down | status | binaries."""

from __future__ import annotations

import argparse
import os
import sys

from cortex_testbed import binaries, choice, debian
from cortex_testbed.cluster import State, UserCluster
from cortex_testbed.errors import BedError


def main() -> int:
    """Exit code 0; 1 with one message when it cannot be done, or when `status` finds nothing."""
    parser = argparse.ArgumentParser(prog="python -m cortex_testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start this checkout's cluster; one that is up stays as it is")
    commands.add_parser("down", help="end it")
    commands.add_parser("status", help="what is up; exit code 1: nothing")
    build = commands.add_parser("binaries", help="build what is missing; without a name: all that `make test` needs")
    build.add_argument("--node", action="store_true", help="what `make e2e` needs")
    build.add_argument("names", nargs="*", metavar="name", help=", ".join(binaries.BINARIES))
    arguments = parser.parse_args()
    try:
        return int({"up": _up, "down": _down, "status": _status}.get(arguments.command, _build)(arguments))
    except BedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Given up; what was started is ended", file=sys.stderr)
        return 130


def _up(arguments: argparse.Namespace) -> int:
    _usage(UserCluster().up())
    return 0


def _down(arguments: argparse.Namespace) -> int:
    print("The cluster is gone" if UserCluster().down() else "No cluster is up")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    cluster = UserCluster()
    state = cluster.state()
    if state is None:
        raise BedError(cluster.fault() or "No cluster is up: make cluster")
    print(state.says)
    _usage(state)
    return 0


def _build(arguments: argparse.Namespace) -> int:
    names = arguments.names or (binaries.NODE if arguments.node else [*choice.choose().needs, *binaries.CHECKS])
    if unknown := [name for name in names if name not in binaries.BINARIES]:
        raise BedError(f"{unknown[0]} is not known: use one of {', '.join(binaries.BINARIES)}")
    print(f"{', '.join(names)}: in {os.path.relpath(binaries.ensure(names))}")
    if not (arguments.names or arguments.node):
        print(f"redis-server: {os.path.relpath(debian.redis().path)}")
    return 0


def _usage(state: State) -> None:
    print(f"\nexport KUBECONFIG={state.kubeconfig}\n\n`make cluster-down` ends it.")


if __name__ == "__main__":
    sys.exit(main())
