"""The breaker held against a model: a list of every call and its end."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from cortex_workloads.runtime.resilience.breaker import Attempt, Breaker, State
from cortex_workloads.runtime.resilience.policies import BreakerPolicy
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

POLICY = BreakerPolicy(
    failure_ratio=0.5, minimum_calls=4, window_seconds=10, open_seconds=5, probe_seconds=3, slow_seconds=1
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(POLICY, clock)


def admitted(breaker: Breaker) -> Attempt:
    attempt = breaker.admit()
    assert attempt is not None
    return attempt


def opened(breaker: Breaker) -> None:
    for _ in range(POLICY.minimum_calls):
        admitted(breaker).failed()
    assert breaker.state is State.OPEN


def test_it_opens_at_the_ratio_and_not_before(breaker: Breaker) -> None:
    for _ in range(5):
        admitted(breaker).succeeded()
    for _ in range(4):
        admitted(breaker).failed()
    assert (breaker.state, breaker.counts) == (State.CLOSED, (4, 9))
    admitted(breaker).failed()
    assert breaker.state is State.OPEN
    assert breaker.admit() is None


def test_few_calls_decide_nothing(breaker: Breaker) -> None:
    for _ in range(POLICY.minimum_calls - 1):
        admitted(breaker).failed()
    assert breaker.state is State.CLOSED


def test_failures_of_long_ago_are_forgotten(breaker: Breaker, clock: Clock) -> None:
    for _ in range(3):
        admitted(breaker).failed()
    clock.now += POLICY.window_seconds
    admitted(breaker).failed()
    assert (breaker.state, breaker.counts) == (State.CLOSED, (1, 1))


def test_a_dropped_call_counts_for_nothing(breaker: Breaker) -> None:
    for _ in range(100):
        admitted(breaker).dropped()
    assert breaker.counts == (0, 0)


@pytest.mark.parametrize(("window", "counts"), [(5, (1, 2)), (10, (3, 4)), (40, (3, 4))])
def test_another_window_keeps_what_was_counted(
    breaker: Breaker, clock: Clock, window: float, counts: tuple[int, int]
) -> None:
    for _ in range(2):
        admitted(breaker).failed()
    clock.now += 6
    admitted(breaker).failed()
    admitted(breaker).succeeded()
    breaker.change(POLICY.model_copy(update={"window_seconds": window, "minimum_calls": 100}))
    assert breaker.counts == counts
    clock.now += window
    assert breaker.counts == (0, 0)


def test_a_change_holds_for_the_next_failure(breaker: Breaker) -> None:
    admitted(breaker).failed()
    breaker.change(POLICY.model_copy(update={"minimum_calls": 2}))
    assert breaker.state is State.CLOSED
    admitted(breaker).failed()
    assert breaker.state is State.OPEN


def test_an_open_circuit_is_open_for_as_long_as_the_new_policy_says(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    breaker.change(POLICY.model_copy(update={"open_seconds": 60}))
    clock.now += 59
    assert (breaker.state, breaker.wait()) == (State.OPEN, 1)
    breaker.change(POLICY.model_copy(update={"open_seconds": 10}))
    assert breaker.state is State.HALF_OPEN
    # It may be asked now; a longer time is for the next opening.
    breaker.change(POLICY.model_copy(update={"open_seconds": 3600}))
    assert breaker.state is State.HALF_OPEN
    admitted(breaker).failed()
    assert breaker.wait() == 3600


def test_one_probe_decides(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    assert breaker.wait() == POLICY.open_seconds
    clock.now += POLICY.open_seconds
    probe = admitted(breaker)
    assert breaker.admit() is None
    assert breaker.wait() == POLICY.probe_seconds
    probe.failed()
    assert breaker.state is State.OPEN
    clock.now += POLICY.open_seconds
    admitted(breaker).succeeded()
    assert (breaker.state, breaker.counts) == (State.CLOSED, (0, 0))


def test_a_cancelled_probe_gives_its_place_away_at_once(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += POLICY.open_seconds
    admitted(breaker).dropped()
    admitted(breaker).succeeded()
    assert breaker.state is State.CLOSED


def test_a_probe_that_is_never_answered_gives_its_place_away_in_time(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += POLICY.open_seconds
    lost = admitted(breaker)
    clock.now += POLICY.probe_seconds
    second = admitted(breaker)
    lost.failed()
    assert breaker.wait() == POLICY.probe_seconds, "the second decides"
    second.succeeded()
    assert breaker.state is State.CLOSED


def test_a_slow_probe_that_is_answered_at_last_closes(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += POLICY.open_seconds
    slow = admitted(breaker)
    clock.now += POLICY.probe_seconds
    admitted(breaker)
    slow.succeeded()
    assert breaker.state is State.CLOSED


def test_calls_of_before_say_nothing_of_after(breaker: Breaker, clock: Clock) -> None:
    early = [admitted(breaker) for _ in range(10)]
    opened(breaker)
    early[0].succeeded()
    assert breaker.admit() is None
    clock.now += POLICY.open_seconds
    early[1].succeeded()
    assert breaker.state is not State.CLOSED
    admitted(breaker).succeeded()
    for late in early[2:]:
        late.failed()
    assert (breaker.state, breaker.counts) == (State.CLOSED, (0, 0))


def test_other_pods_are_tried_at_once(breaker: Breaker) -> None:
    opened(breaker)
    breaker.hasten()
    probe = admitted(breaker)
    breaker.hasten()
    assert breaker.admit() is None, "one at a time all the same"
    probe.failed()
    assert breaker.state is State.OPEN


class BreakerMachine(RuleBasedStateMachine):
    """The model keeps each call's end and time since the circuit was last closed, and reads the state off them."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(POLICY, self.clock)
        self.under_way: list[tuple[Attempt, int]] = []
        self.ends: list[tuple[float, bool]] = []
        self.opened_at: float | None = None
        self.probe: tuple[Attempt, float] | None = None
        self.period = 0

    def expected(self) -> State:
        if self.opened_at is None:
            return State.CLOSED
        return State.OPEN if self.clock.now < self.opened_at + POLICY.open_seconds else State.HALF_OPEN

    def recent(self) -> list[bool]:
        tick = int(self.clock.now)
        return [failed for at, failed in self.ends if int(at) > tick - POLICY.window_seconds]

    def turn(self, opened_at: float | None) -> None:
        self.opened_at, self.probe, self.ends = opened_at, None, []
        self.period += 1

    @rule(seconds=st.sampled_from((0.25, 1.0, 3.0, 5.0, 11.0)))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def a_call_begins(self) -> None:
        state = self.expected()
        probing = self.probe is not None and self.clock.now < self.probe[1] + POLICY.probe_seconds
        attempt = self.breaker.admit()
        assert (attempt is None) == (state is State.OPEN or (state is State.HALF_OPEN and probing))
        if attempt is not None:
            self.under_way.append((attempt, self.period))
            if state is State.HALF_OPEN:
                self.probe = (attempt, self.clock.now)

    def ended(self, data: st.DataObject) -> tuple[Attempt, bool]:
        attempt, period = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        return attempt, period == self.period

    @precondition(lambda self: self.expected() is State.CLOSED)
    @rule()
    def the_target_fails(self) -> None:
        self.clock.now += POLICY.window_seconds + 1
        opened(self.breaker)
        self.turn(self.clock.now)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def a_call_succeeds(self, data: st.DataObject) -> None:
        attempt, counts = self.ended(data)
        attempt.succeeded()
        if counts and self.opened_at is None:
            self.ends.append((self.clock.now, False))
        elif counts:
            self.turn(None)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def a_call_fails(self, data: st.DataObject) -> None:
        attempt, counts = self.ended(data)
        attempt.failed()
        if counts and self.opened_at is None:
            self.ends.append((self.clock.now, True))
            recent = self.recent()
            if len(recent) >= POLICY.minimum_calls and sum(recent) >= POLICY.failure_ratio * len(recent):
                self.turn(self.clock.now)
        elif counts and self.probe is not None and attempt is self.probe[0]:
            self.turn(self.clock.now)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def a_call_is_cancelled(self, data: st.DataObject) -> None:
        attempt, _ = self.ended(data)
        attempt.dropped()
        attempt.failed()
        if self.probe is not None and attempt is self.probe[0]:
            self.probe = None

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def a_call_is_forgotten(self, data: st.DataObject) -> None:
        self.ended(data)

    @precondition(lambda self: self.opened_at is not None)
    @rule()
    def a_healthy_target_is_found_again(self) -> None:
        self.clock.now += self.breaker.wait()
        admitted(self.breaker).succeeded()
        self.turn(None)

    @invariant()
    def the_state_is_the_models(self) -> None:
        assert self.breaker.state is self.expected()
        if self.opened_at is None:
            assert self.breaker.counts == (sum(self.recent()), len(self.recent()))
            assert self.breaker.wait() == 0


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
