"""Runs one server for a test run and ends it, data included, when the process that owns the run is gone.

    python keeper.py postgres|valkey|redis DIRECTORY OWNER_PID

Writes {"url", "pid", "keeper"} to DIRECTORY.json when the server answers, or {"error"}.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from cortex_cli.local import postgres, valkey
from cortex_cli.local.launch import Launch


def prepare_redis(directory: Path, *, durable: bool = True) -> Launch:
    """Redis reads what Valkey is configured by."""
    from cortex_testbed import debian  # not on the path of who starts other servers

    launch, program = valkey.prepare(directory, durable=durable), debian.redis()
    env = {**launch.env, **program.env}
    return replace(launch, name="redis", command=(str(program.path), *launch.command[1:]), env=env)


LAUNCHERS = {"postgres": postgres.prepare, "valkey": valkey.prepare, "redis": prepare_redis}
READY_SECONDS = 60.0


def die_with_parent() -> None:
    """For the child, before exec: it is killed when the thread that started it is gone."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def start(launch: Launch, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            launch.command,
            cwd=launch.cwd,
            env=dict(launch.env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,
        )
    deadline = time.monotonic() + READY_SECONDS
    while reason := launch.probe():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"{launch.name} does not start: {reason}\n{log.read_text()[-2000:]}")
        time.sleep(0.01)
    return process


def report(directory: Path, **content: object) -> None:
    new = directory.with_suffix(".json.new")
    new.write_text(json.dumps(content))
    new.replace(directory.with_suffix(".json"))


def main(name: str, directory: Path, owner: int) -> None:
    gone = os.pidfd_open(owner)
    wake, stop = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(stop, b"."))
    try:
        launch = LAUNCHERS[name](directory, durable=False)
        process = start(launch, directory.with_suffix(".log"))
    except Exception as error:
        report(directory, error=str(error))
        raise
    report(directory, url=launch.url, pid=process.pid, keeper=os.getpid())
    ended = os.pidfd_open(process.pid)
    select.select([gone, wake, ended], [], [])
    process.send_signal(signal.SIGKILL)
    process.wait()
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
