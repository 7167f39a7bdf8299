"""JSON that is nested too deeply: what lies deep reads as null, all else as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cortex_kube import deep
from hypothesis import given
from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.text() | st.integers(-9, 9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def nested(levels: int, within: Any = 1) -> bytes:
    opening, closing = b'{"a\\"]}": [' * (levels // 2), b"]}" * (levels // 2)
    return b'{"before": "\\\\", "deep": ' + opening + json.dumps(within).encode() + closing + b', "after": [2]}'


def depth(value: Any) -> int:
    levels = 0
    while isinstance(value, dict | list):
        (value,) = (value.values() if isinstance(value, dict) else value) or (None,)
        levels += 1
    return levels


@pytest.mark.parametrize("levels", [0, 2, 198, 600, 1022])
def test_what_is_not_too_deep_is_as_it_is(levels: int) -> None:
    assert depth(deep.loads(nested(levels))["deep"]) == levels


@pytest.mark.parametrize("levels", [1030, 9000])
def test_what_is_too_deep_is_cut_and_all_else_is_there(levels: int) -> None:
    found = deep.loads(nested(levels))
    assert (found["before"], found["after"], depth(found["deep"])) == ("\\", [2], deep.LEVELS - 1)


@given(JSON, JSON)
def test_what_stands_beside_it_is_kept(one: Any, other: Any) -> None:
    data = b"[%b, %b, %b]" % (json.dumps(one).encode(), nested(1200, one), json.dumps(other).encode())
    found = deep.loads(data)
    assert (found[0], found[2]) == (one, other)


@pytest.mark.parametrize("text", [b"", b"{", b'{"a": "}', nested(1200)[:-1], nested(1200) + b"]"])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"char|empty"):
        deep.loads(text)
