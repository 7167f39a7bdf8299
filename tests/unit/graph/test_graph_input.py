"""The input of a run against the workflow's schema."""

from __future__ import annotations

import pytest
from cortex_workloads.graph.input import InputSchema
from cortex_workloads.runtime.errors import InvalidInput


def test_a_huge_value_does_not_hide_the_reason() -> None:
    schema = InputSchema({"type": "object", "properties": {"question": {"maxLength": 2000}}}, most_bytes=2_000_000)
    with pytest.raises(InvalidInput) as caught:
        schema.check({"question": "x" * 1_000_000})
    assert caught.value.message.endswith("is too long; the limit is 2,000 characters")
    assert len(caught.value.message) < 250
    assert "spec.input.schema" in caught.value.remedy


@pytest.mark.parametrize("value", [1e308, 2**70, [{"a": -(2**60)}]])
def test_a_number_that_would_be_changed_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match=r"input\.n.* is beyond 2\^53"):
        InputSchema({"type": "object"}, most_bytes=1000).check({"n": value})


def test_numbers_up_to_the_bound_pass() -> None:
    InputSchema({"type": "object"}, most_bytes=1000).check({"n": 2**53, "m": [-1.5, True]})
