"""A workflow that is written, relayed, read and followed while everything that takes part is killed at random points,
and the oracle that holds what is left against what was acknowledged."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cortex_workloads.graph import checkpoints
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.state import history
from patience import opened
from state_cast import Member, follow, lines, read, relay, switch, write
from state_desk import Desk

WRITERS, RELAYS = 2, 2
PATIENCE = 60.0


async def prepared(dsn: str) -> None:
    """Gives a database the schema and the workflow."""
    lake = await opened(dsn, 2)
    await migrate(lake)
    await checkpoints.migrate(lake)
    desk = Desk(lake, "")
    await desk.ensure()
    await desk.close()
    await lake.close()


class Crashes:
    """Everything that takes part. `postgres` and `valkey` are servers that nobody else uses (OwnServer)."""

    def __init__(self, postgres: Any, valkey: Any, dsn: str, directory: Path, seed: str) -> None:
        self._postgres, self._valkey, self._rng = postgres, valkey, random.Random(seed)
        self.happened: Counter[str] = Counter()
        self.writers = [
            Member(write, dsn, directory / f"writer-{n}", name=f"writer-{n}", seed=seed) for n in range(WRITERS)
        ]
        self.switcher = Member(switch, dsn, directory / "switcher")
        self.relays = [Member(relay, dsn, directory / f"relay-{n}", name=f"relay-{n}") for n in range(RELAYS)]
        self.follower = Member(follow, dsn, directory / "follower")
        told_by = [one.path for one in self.writers]
        self.reader = Member(read, dsn, directory / "reader", told_by=told_by, seed=seed)
        self.members = [*self.writers, self.switcher, *self.relays, self.follower, self.reader]

    def __enter__(self) -> Crashes:
        for one in self.members:
            one.start(self._valkey.url)
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.members:
            one.kill()

    def run(self, extra: int) -> None:
        """Each crash once, and `extra` more, in random order with random times between."""
        kinds: list[Callable[[], None]] = [
            self._writer,
            self._relay,
            self._observers,
            self._valkey_killed,
            self._valkey_loses_its_end,
            self._valkey_loses_all,
            self._lake,
        ]
        order = [*kinds, *self._rng.choices(kinds, k=extra)]
        self._rng.shuffle(order)
        self._begun()
        for crash in order:
            crash()
            self.happened[crash.__name__.strip("_")] += 1
            self._pause(0.05, 0.6)
        self._pause(0.3)

    def _begun(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not all(any(lines(one.path)) for one in (*self.writers, self.switcher, self.follower, self.reader)):
            assert time.monotonic() < deadline, "they do not begin"
            time.sleep(0.02)

    def quiet(self) -> None:
        """Nothing is written any more."""
        for one in (*self.writers, self.switcher):
            one.kill()
            self.members.remove(one)

    def _pause(self, least: float, most: float = 0.0) -> None:
        time.sleep(self._rng.uniform(least, max(least, most)))

    def _again(self, *members: Member) -> None:
        for one in members:
            one.kill()
        if self._rng.random() < 0.3:
            self._pause(0.0, 0.3)
        for one in members:
            one.start(self._valkey.url)

    def _writer(self) -> None:
        self._again(self._rng.choice([*self.writers, self.switcher]))

    def _relay(self) -> None:
        self._again(*self._rng.sample(self.relays, self._rng.randint(1, RELAYS)))

    def _observers(self) -> None:
        self._again(self.follower, self.reader)

    def _lake(self) -> None:
        self._postgres.kill()
        self._postgres.start()

    def _valkey_killed(self) -> None:
        self._restarted(lambda: None)

    def _valkey_loses_its_end(self) -> None:
        self._restarted(lambda: cut(self._valkey.directory, self._rng))

    def _valkey_loses_all(self) -> None:
        self._restarted(lambda: shutil.rmtree(self._valkey.directory / "appendonlydir"))

    def _restarted(self, meanwhile: Callable[[], None]) -> None:
        before = self._valkey.url
        self._valkey.kill()
        meanwhile()
        self._valkey.start()
        if self._valkey.url != before:  # somebody took its port
            self._again(*self.members)


def cut(directory: Path, rng: random.Random) -> None:
    """Takes the end off the append-only file of a server that does not run: some bytes, or up to all of it."""
    (file,) = (directory / "appendonlydir").glob("*.incr.aof")
    size = file.stat().st_size
    lost = rng.choice((rng.randint(1, 200), rng.randint(1, 20_000), rng.randint(1, max(size, 1))))
    with file.open("r+b") as opened:
        opened.truncate(max(0, size - lost))


@dataclass(frozen=True)
class Acknowledged:
    """What writers were told that it is done."""

    begun: list[dict[str, Any]]
    ended: list[dict[str, Any]]
    switched: list[dict[str, Any]]

    @classmethod
    def by(cls, crashes: Crashes) -> Acknowledged:
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for path in {one.path for one in (*crashes.writers, crashes.switcher)}:
            for line in lines(path):
                found[line["did"]].append(line)
        return cls(found["begun"], found["ended"], found["switched"])

    def floors(self) -> dict[str, list[tuple[float, int]]]:
        """For each aggregate, from when on it has at least which version: (time, version), rising."""
        times: dict[str, list[float]] = defaultdict(list)
        for line in self.begun:
            times[f"run/{line['run']}"].append(line["at"])
        for line in self.ended:
            times[f"run/{line['run']}"].append(line["at"])
        for line in self.ended:
            if line["well"]:
                times[f"thread/{line['thread']}"].append(line["at"])
        for line in self.switched:
            times["resource"].append(line["at"])
        return {name: [(at, n) for n, at in enumerate(sorted(found), 1)] for name, found in times.items()}


async def judge(desk: Desk, crashes: Crashes) -> str:
    """Holds everything against what was acknowledged; returns what there was, in words."""
    acknowledged, row = Acknowledged.by(crashes), await desk.row()
    deadline = time.monotonic() + PATIENCE
    # What a writer had sent when it was killed the server may commit after that: the end is looked for anew each time.
    while True:
        await desk.relayed()
        ((last,),) = await desk.rows("SELECT position FROM feeds WHERE resource_id = %s", row)
        seen = list(lines(crashes.follower.path))
        if seen and seen[-1]["position"] == last:
            break
        assert crashes.follower.lives, seen[-1:]
        assert time.monotonic() < deadline, f"the follower came to {seen[-1:]} of {last}"
        await asyncio.sleep(0.05)

    events = await desk.rows("SELECT position, aggregate, version, type, data FROM events ORDER BY position")
    assert [position for position, *_ in events] == list(range(1, last + 1))
    assert [(s["position"], s["of"], s["version"], s["type"]) for s in seen] == [event[:4] for event in events]
    _each_once(acknowledged, events)
    reads = _reads_keep_their_word(acknowledged, crashes.reader.path)

    async with desk.lake.connection() as connection:
        assert await history.rows_against_events(connection, row) == []
        # One of the relays may have begun anew just now, and be at it.
        while wrong := await history.copies_against_rows(connection, row, desk.copies):
            assert time.monotonic() < deadline, wrong
            await asyncio.sleep(0.05)
    copies = len(await desk.copies.aggregates())
    assert copies > 3
    assert acknowledged.ended
    assert (await desk.copies.standing()).position == last
    return (
        f"{len(acknowledged.begun)} runs, {len(acknowledged.ended)} ended, {len(acknowledged.switched)} switches,"
        f" {last} events, {copies} copies, {reads}; {dict(crashes.happened)}"
    )


def _each_once(acknowledged: Acknowledged, events: list[tuple[Any, ...]]) -> None:
    types: dict[str, list[str]] = defaultdict(list)
    data: dict[str, dict[str, Any]] = defaultdict(dict)
    switches: Counter[str] = Counter()
    for _, name, _, type, changed in events:
        types[name].append(type)
        data[name].update(changed)
        if type == "CurrentChanged":
            switches[changed["current"]] += 1
    for line in acknowledged.begun:
        assert types[f"run/{line['run']}"].count("RunStarted") == 1, line
    for line in acknowledged.ended:
        told, name = ("RunSucceeded" if line["well"] else "RunFailed"), f"run/{line['run']}"
        assert [type for type in types[name] if type in ("RunSucceeded", "RunFailed")] == [told], line
        kept = data[name]["output"]["answer"] if line["well"] else data[name]["failure"]["message"]
        assert kept == line["answer"]
    for line in acknowledged.switched:
        assert switches[line["revision"]] == 1, line


def _reads_keep_their_word(acknowledged: Acknowledged, path: Path) -> str:
    floors = acknowledged.floors()
    sources: Counter[str] = Counter()
    oldest = 0.0
    for line in lines(path):
        sources[f"{line['how']} from {line['source']}"] += 1
        oldest = max(oldest, line["age"])
        known = floors.get(line["of"], [])
        index = bisect_right(known, line["began"] - line["age"], key=lambda floor: floor[0])
        least = known[index - 1][1] if index else 0
        assert line["version"] >= least, f"{line} and version {least} was acknowledged at {known[index - 1][0]}"
    return f"reads {dict(sources)}, {oldest:.2f} s old at most"
