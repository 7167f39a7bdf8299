"""The shared state: what a command costs beside a plain write, how soon a change is heard, how fast events are brought
from the Lake to the copy, and what keeping events costs who writes.

Cases are measured in turn, several times, in one process; ratios are of medians.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any, Final, cast

from cortex_cli.local import postgres, valkey
from cortex_workloads.graph import checkpoints
from cortex_workloads.graph.store import Store
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.progress import connect
from cortex_workloads.runtime.state.aggregates import Consistency, key, tag
from cortex_workloads.runtime.state.copies import Copies
from cortex_workloads.runtime.state.functions import Functions
from cortex_workloads.runtime.state.manager import StateManager
from cortex_workloads.runtime.state.relay import Relay
from cortex_workloads.runtime.state.volatile import Volatile

from benchmarks.served import served

RESULTS: Final = Path(__file__).parent / "results" / "state"
AT_ONCE: Final = 32
ROUNDS: Final = 7
COMMANDS: Final = 3_000
CHANGES: Final = 600
PER_SECOND: Final = 200
EVENTS: Final = 20_000
RUNS: Final = 400
_DESK: Final = Resource("CortexWorkflow", "default", "desk")
_REVISION: Final = "aaaaaaaaaa"
_FIELDS: Final = {"runs": 3, "most": 256, "draining": False}

Case = Callable[[], Awaitable[Any]]


def run() -> int:
    """Measures and writes the results; returns the exit code."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cortex-state-") as folder, ExitStack() as servers:
        lake = servers.enter_context(served(postgres.prepare(Path(folder) / "lake", durable=False)))
        state = servers.enter_context(served(valkey.prepare(Path(folder) / "state", durable=False)))
        figures = asyncio.run(_measure(lake, state))
    (RESULTS / "state.json").write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def table() -> str:
    """All results as Markdown."""
    lines = ["## State\n", "Medians of one run, the cases in turn.\n", "| case | figure | ratio | of | goal |"]
    lines.append("|---|---|---|---|---|")
    for file in sorted(RESULTS.glob("*.json")):
        figures: dict[str, float] = json.loads(file.read_text())
        for case, of, goal in _COMPARED:
            ratio = f"{figures[case] / figures[of]:.3f} | {of}" if of else " | "
            lines.append(f"| {case} | {figures[case]:.3f} | {ratio} | {goal} |")
    return "\n".join(lines) + "\n"


_COMPARED: Final = (
    (f"plain HSET per second, {AT_ONCE} at once", "", ""),
    (f"bare FCALL per second, {AT_ONCE} at once", f"plain HSET per second, {AT_ONCE} at once", ""),
    (f"command per second, {AT_ONCE} at once", f"plain HSET per second, {AT_ONCE} at once", ">= 0.6"),
    (f"command per second, {AT_ONCE} at once ", f"bare FCALL per second, {AT_ONCE} at once", ">= 0.9"),
    ("bare publish to subscriber, ms", "", ""),
    ("command to subscriber, ms", "bare publish to subscriber, ms", "<= 1.3"),
    ("run begun in the Lake to subscriber, ms", "bare publish to subscriber, ms", ""),
    ("events brought to the copy per second", "", ">= 3000"),
    ("run begun and ended, without events, ms", "", ""),
    ("run begun and ended, ms", "run begun and ended, without events, ms", ""),
    ("read Durable, ms", "", ""),
    ("read Latest, ms", "read Durable, ms", ""),
    ("read Bounded, ms", "read Durable, ms", ""),
)


async def _measure(dsn: str, url: str) -> dict[str, float]:
    lake = Lake(dsn, 10)
    await lake.open()
    await migrate(lake)
    await checkpoints.migrate(lake)
    async with lake.transaction() as connection:
        await revisions.ensure(connection, _DESK, _REVISION, {}, 1)
    figures = await _commands(url)
    figures |= await _heard(lake, url)
    figures |= await _writes(lake)
    figures |= await _projection(lake, url)
    figures |= await _reads(lake, url)
    await lake.close()
    return figures


async def _commands(url: str) -> dict[str, float]:
    functions, client = Functions(url), cast(Any, connect(url, 5))
    volatile = Volatile(functions, _DESK)
    number = iter(range(10**9))
    await volatile.write("replica/warm", "ReplicaSeen", _FIELDS, seconds=60)
    keys = (key(_DESK, "live", "replica/bare"), key(_DESK, "changes"), key(_DESK, "roster", "replica"))
    message = '{"resource":"' + tag(_DESK) + '","aggregate":"replica/bare","type":"ReplicaSeen","version":'
    flat = [part for name, value in _FIELDS.items() for part in (name, json.dumps(value))]

    async def plain() -> None:
        await client.hset(f"plain:{next(number) % 64}", mapping={n: json.dumps(v) for n, v in _FIELDS.items()})

    async def bare() -> None:
        await client.fcall(
            "cortex_state_1_command", 3, *keys, -1, 60000, 1000, "replica/bare", "ReplicaSeen", message, *flat
        )

    async def command() -> None:
        await volatile.write(f"replica/{next(number) % 64}", "ReplicaSeen", _FIELDS, seconds=60)

    cases: dict[str, Case] = {"plain HSET": plain, "bare FCALL": bare, "command": command}
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, case in cases.items():
            rates[name].append(await _rate(case))
    await functions.close()
    await client.aclose()
    found = {f"{name} per second, {AT_ONCE} at once": statistics.median(rates[name]) for name in cases}
    found[f"command per second, {AT_ONCE} at once "] = found[f"command per second, {AT_ONCE} at once"]
    return found


async def _rate(case: Case) -> float:
    left = iter(range(COMMANDS))

    async def work() -> None:
        for _ in left:
            await case()

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return COMMANDS / (time.perf_counter() - begun)


async def _heard(lake: Lake, url: str) -> dict[str, float]:
    """Median time from before a change is made until a subscriber has it, at a steady rate; those of Valkey alone by
    turns."""
    publisher = cast(Any, connect(url, 5))
    state = StateManager(lake, url, _DESK)
    store = Store(lake, _DESK, "bench", state.committed)
    state.start("bench", dict)

    async def bare(name: str) -> None:
        await publisher.publish("cortex:state", json.dumps({"aggregate": name}))

    async def command(name: str) -> None:
        await state.volatile.write(name, "Seen", _FIELDS)

    async def begun(name: str) -> None:
        run_id = name.removeprefix("run/")
        await store.begin(run_id, run_id, _REVISION, {"question": "why?"})

    cases = {"bare publish to subscriber, ms": bare, "command to subscriber, ms": command}
    took: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for name, times in (await _latencies(url, cases)).items():
            took[name] += times
    took |= await _latencies(url, {"run begun in the Lake to subscriber, ms": begun})
    await state.close()
    await publisher.aclose()
    return {name: statistics.median(times) for name, times in took.items()}


async def _latencies(url: str, cases: Mapping[str, Callable[[str], Awaitable[None]]]) -> dict[str, list[float]]:
    """In milliseconds, of changes that are made in turn."""
    client = cast(Any, connect(url, 30))
    subscription = client.pubsub(ignore_subscribe_messages=True)
    await subscription.subscribe("cortex:state")
    begun: dict[str, tuple[str, float]] = {}
    took: dict[str, list[float]] = {name: [] for name in cases}

    async def listen() -> None:
        while sum(map(len, took.values())) < CHANGES:
            message = await subscription.get_message(timeout=30)
            if message is not None and (made := begun.pop(json.loads(message["data"])["aggregate"], None)) is not None:
                took[made[0]].append((time.perf_counter() - made[1]) * 1000)

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0.1)
    next_at = time.perf_counter()
    making: set[asyncio.Task[None]] = set()
    for case, _ in zip(cycle(cases), range(CHANGES), strict=False):
        next_at += 1 / PER_SECOND
        await asyncio.sleep(max(0.0, next_at - time.perf_counter()))
        name = f"run/{uuid.uuid4()}"
        begun[name] = case, time.perf_counter()
        task = asyncio.create_task(cast(Any, cases[case](name)))
        making.add(task)
        task.add_done_callback(making.discard)
    await listening
    await subscription.aclose()
    await client.aclose()
    return took


async def _writes(lake: Lake) -> dict[str, float]:
    """A run that begins and ends at once, eight threads at a time, with the triggers that keep events and without."""
    store = Store(lake, _DESK, "bench")
    took: dict[str, list[float]] = {"run begun and ended, without events, ms": [], "run begun and ended, ms": []}
    for _ in range(ROUNDS):
        for name, times in took.items():
            async with lake.connection() as connection:
                for table in ("threads", "runs"):
                    switch = "DISABLE" if "without" in name else "ENABLE"
                    await connection.execute(f"ALTER TABLE {table} {switch} TRIGGER USER")
            times.append(await _runs(store))
    async with lake.transaction() as connection:
        # What was written without events has no history.
        await connection.execute("SET LOCAL cortex.dropping = 'on'")
        await connection.execute("DELETE FROM threads")
        await connection.execute("DELETE FROM events WHERE aggregate LIKE 'run/%' OR aggregate LIKE 'thread/%'")
    return {name: statistics.median(times) for name, times in took.items()}


async def _runs(store: Store) -> float:
    left = iter(range(RUNS))

    async def work() -> None:
        for _ in left:
            one = str(uuid.uuid4())
            run_, _ = await store.begin(one, one, _REVISION, {"question": "why?"})
            await store.succeed(run_, {"answer": "because " * 50}, 4)

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(8)))
    return (time.perf_counter() - begun) * 1000 * 8 / RUNS


async def _projection(lake: Lake, url: str) -> dict[str, float]:
    """Events that wait, numbered and applied by one relay."""
    functions = Functions(url)
    relay = Relay(lake, Copies(functions, _DESK), _DESK)
    while await relay.round():
        pass
    rates = []
    for part in range(3):
        async with lake.transaction() as connection:
            await connection.execute(
                "WITH t AS (INSERT INTO threads (resource_id, thread, revision)"
                " SELECT s.id, %s || n, %s FROM resources s, generate_series(1, %s) n RETURNING resource_id, thread)"
                " INSERT INTO runs (run_id, resource_id, thread, revision, input, lease_until)"
                ' SELECT gen_random_uuid(), t.resource_id, t.thread, %s, \'{"question": "why?"}\', now() FROM t',
                (f"p{part}-", _REVISION, EVENTS // 6, _REVISION),
            )
        begun = time.perf_counter()
        while await relay.round():
            pass
        rates.append(EVENTS // 6 * 2 / (time.perf_counter() - begun))
    await functions.close()
    return {"events brought to the copy per second": statistics.median(rates)}


async def _reads(lake: Lake, url: str) -> dict[str, float]:
    state = StateManager(lake, url, _DESK)
    state.start("bench", dict)
    async with lake.connection() as connection:
        found = await connection.execute("SELECT 'run/' || run_id FROM runs LIMIT 200")
        names = [row[0] for row in await found.fetchall()]
    took: dict[str, list[float]] = {f"read {consistency}, ms": [] for consistency in Consistency}
    for _ in range(ROUNDS):
        for consistency in Consistency:
            begun = time.perf_counter()
            for name in names:
                await state.read(name, consistency, 60.0)
            took[f"read {consistency}, ms"].append((time.perf_counter() - begun) * 1000 / len(names))
    await state.close()
    return {name: statistics.median(times) for name, times in took.items()}
