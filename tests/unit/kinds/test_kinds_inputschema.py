"""What is said of an input that breaks a schema: a little of the value, always the reason."""

from __future__ import annotations

from typing import Any

import pytest
from cortex_kinds.inputschema import broken_rule
from jsonschema import Draft202012Validator

HUGE = "x" * 1_000_000


@pytest.mark.parametrize(
    ("schema", "value", "says"),
    [
        ({"maxLength": 2000}, HUGE, "... is too long; the limit is 2,000 characters"),
        ({"minLength": 3}, "ab", "'ab' is too short; characters needed: 3"),
        ({"maxItems": 2}, [HUGE] * 3, "... has too many items; the limit is 2"),
        ({"minProperties": 1}, {}, "{} has too few properties; needed: 1"),
        ({"type": "integer"}, HUGE, "... is not of type 'integer'"),
        ({"enum": ["a", "b"]}, HUGE, "... is not one of ['a', 'b']"),
        ({"properties": {"depth": {}}, "additionalProperties": False}, {"dept": 1},
         "there is no 'dept'; did you mean depth?"),
        ({"additionalProperties": False}, {HUGE: 1}, "..."),
        ({"required": ["question"]}, {"q": HUGE}, "'question' is a required property"),
    ],
)  # fmt: skip
def test_the_reason_is_said_whatever_the_value_is(schema: dict[str, Any], value: Any, says: str) -> None:
    (error,) = Draft202012Validator(schema).iter_errors(value)
    assert broken_rule(error).endswith(says)
    assert len(broken_rule(error)) < 200
