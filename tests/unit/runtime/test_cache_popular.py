"""What is asked for most is known in bounded memory, also behind a scan of what is asked for once."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from cortex_workloads.runtime.cache.popular import Popular
from hypothesis import given
from hypothesis import strategies as st


@given(most=st.integers(0, 20), asked=st.lists(st.binary(min_size=1, max_size=12), max_size=300))
def test_it_holds_no_more_than_twice_its_number_and_counts_no_long_key(most: int, asked: list[bytes]) -> None:
    popular = Popular(most, 8)
    told: Counter[bytes] = Counter()
    for number, key in enumerate(asked):
        popular.count(key)
        assert len(popular) <= 2 * most
        if number % 50 == 49:
            told.update(popular.take())
            popular.fade(0.9)
    counted = Counter(key for key in asked if len(key) <= 8)
    assert all(count <= counted[key] for key, count in (told + Counter(popular.take())).items())
    assert all(counted[key] > 1 for key in popular.top(100))


@pytest.mark.parametrize("seed", range(3))
def test_the_most_used_are_known_behind_a_scan(seed: int) -> None:
    chance, popular = random.Random(seed), Popular(64, 100)
    hot = [b"hot%d" % number for number in range(16)]
    for number in range(20_000):
        popular.count(b"once%d" % number)
        if number % 4 == 0:
            popular.count(chance.choice(hot))
    assert set(popular.top(16)) == set(hot)
    assert popular.take().keys() == set(hot)


def test_what_was_taken_is_not_taken_again_and_what_is_rare_waits() -> None:
    popular = Popular(8, 100)
    for key in (b"a", b"a", b"a", b"b"):
        popular.count(key)
    assert popular.take() == {b"a": 3}
    assert popular.take() == {}
    for key in (b"a", b"b"):
        popular.count(key)
    assert popular.take() == {b"a": 1, b"b": 2}


def test_what_is_asked_now_passes_what_was_asked_often_long_ago() -> None:
    popular = Popular(8, 100)
    for key in [b"then"] * 20 + [b"once"]:
        popular.count(key)
    for _ in range(10):
        popular.fade(0.5)
        for _ in range(4):
            popular.count(b"now")
    assert popular.top(8) == [b"now"]
