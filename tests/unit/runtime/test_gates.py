"""What callers hear of a limit that has just changed."""

from __future__ import annotations

from cortex_workloads.runtime.resilience.bulkhead import Place
from cortex_workloads.runtime.resilience.policies import LimitPolicy
from cortex_workloads.runtime.resilience.shedding import Gate


async def test_who_is_refused_hears_of_the_limit_that_holds_now() -> None:
    gate = Gate("Changed", "calls", LimitPolicy(concurrent=1, waiting=0))
    async with gate.place(), grown(gate, 2):
        for places in (1, 2):
            gate.change(LimitPolicy(concurrent=places, waiting=0))
            # Endings are kept by the time that they tell, which is one of few.
            told = {ending[1] for ending in (gate.refusal() for _ in range(100)) if ending is not None}
            assert [f"{places} run and 0 wait" in said for said in told] == [True]
        gate.change(LimitPolicy(concurrent=3, waiting=0))
        assert gate.refusal() is None


def grown(gate: Gate, places: int) -> Place:
    gate.change(LimitPolicy(concurrent=places, waiting=0))
    return gate.place()
