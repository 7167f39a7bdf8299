"""The generator, a process of its own: `load.main()`, a plan on stdin, figures on stdout (JSON).

Open loop: calls leave when their time has come, whether earlier ones were answered or not. No query is asked twice, so
that no cache answers it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import uvloop
from datapunk.cortex import search_pb2

from benchmarks.overload.bed import INDEX

_METHOD: Final = "/datapunk.cortex.HaystackService/Search"


@dataclass(frozen=True)
class Plan:
    """`rate` calls a second, at times of a Poisson process, for `seconds`; or, without a rate, `clients` that each ask
    again when they are answered. A call has `deadline` seconds."""

    address: str
    queries: tuple[str, ...]
    seconds: float
    deadline: float
    rate: float = 0.0
    clients: int = 0
    seed: int = 1


@dataclass
class Outcome:
    """Ends of calls by status, seconds of those that were answered and of those that were refused, and how late the
    generator itself was."""

    ends: Counter[str] = field(default_factory=Counter)
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    late: float = 0.0
    seconds: float = 0.0


class Generator:
    """Of one plan."""

    def __init__(self, plan: Plan, channel: grpc.aio.Channel) -> None:
        self._plan, self._outcome = plan, Outcome()
        # Bytes in, bytes out: what the generator computes is taken from the service.
        self._search: Any = channel.unary_unary(_METHOD)
        self._random = random.Random(plan.seed)
        self._asked = 0

    async def run(self) -> Outcome:
        """The outcome of all calls, once the last has ended."""
        began = time.perf_counter()
        await (self._open() if self._plan.rate else self._closed())
        self._outcome.seconds = time.perf_counter() - began
        return self._outcome

    async def _open(self) -> None:
        calls, due, end = set[asyncio.Task[None]](), time.perf_counter(), time.perf_counter() + self._plan.seconds
        while (due := due + self._random.expovariate(self._plan.rate)) < end:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            elif not self._asked % 16:
                await asyncio.sleep(0)
            self._outcome.late = max(self._outcome.late, time.perf_counter() - due)
            call = asyncio.ensure_future(self._ask(due))
            calls.add(call)
            call.add_done_callback(calls.discard)
        if calls:
            await asyncio.wait(calls)

    async def _closed(self) -> None:
        end = time.perf_counter() + self._plan.seconds

        async def client() -> None:
            while (now := time.perf_counter()) < end:
                await self._ask(now)

        await asyncio.gather(*(client() for _ in range(self._plan.clients)))

    async def _ask(self, due: float) -> None:
        self._asked += 1
        query = f"{self._random.choice(self._plan.queries)} {self._plan.seed}x{self._asked}"
        request = search_pb2.SearchRequest(index=INDEX, query=query, top_k=10).SerializeToString()
        try:
            await self._search(request, timeout=self._plan.deadline)
        except grpc.aio.AioRpcError as error:
            self._outcome.ends[error.code().name] += 1
            self._outcome.refused.append(time.perf_counter() - due)
            return
        self._outcome.ends["OK"] += 1
        self._outcome.answered.append(time.perf_counter() - due)


def main() -> None:
    """Carries out the plan on stdin."""
    uvloop.run(_main())


async def _main() -> None:
    plan = Plan(**json.load(sys.stdin))
    async with grpc.aio.insecure_channel(plan.address) as channel:
        await channel.channel_ready()
        outcome = await Generator(plan, channel).run()
    json.dump(vars(outcome), sys.stdout)
