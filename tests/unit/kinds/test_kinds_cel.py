"""Expressions: what compiles, what evaluates, and what each error says."""

from __future__ import annotations

from typing import Any

import pytest
from cortex_kinds.cel import ExpressionError, Rule, compile_expression
from cortex_kinds.celtext import keys_read
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NUMBER = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("size(state.documents) == 0", False),
        ("state.documents.map(d, d.title)", ["One", "Two"]),
        ("state.documents.map(d, d.title).join(', ')", "One, Two"),
        ("state.question.lowerAscii()", "why?"),
        ("state.?missing.orValue('none')", "none"),
        ("has(state.missing)", False),
        ("{'n': size(state.question), 'ok': true}", {"n": 4, "ok": True}),
        ("timestamp('2026-01-02T03:04:05Z')", "2026-01-02T03:04:05Z"),
        ("duration('90s')", "90s"),
        ("null", None),
    ],
)
def test_values_are_plain_json(text: str, expected: Any) -> None:
    state = {"question": "Why?", "documents": [{"title": "One"}, {"title": "Two"}]}

    assert compile_expression(text).evaluate(state) == expected


@settings(deadline=None)
@given(JSON)
def test_a_value_passes_through_unchanged(value: Any) -> None:
    assert compile_expression("state.value").evaluate({"value": value}) == value


@pytest.mark.parametrize(
    ("text", "expect", "says"),
    [
        ("state.a +", "dyn", "column 10: Syntax error"),
        (
            "true &&\n nothing",
            "dyn",
            "line 2, column 2: undeclared reference to 'nothing'; what an",
        ),
        ("1 + 'a'", "dyn", "found no matching overload"),
        ("size(state.a)", "bool", "is of type int, not a boolean"),
        ("1", "str", "is of type int, not a string"),
        ("'a'", "list", "is of type string, not a list"),
        ("state.?a", "dyn", "end it with .orValue(...)"),
        ("state.a.replace('', state.a)", "dyn", "replace() is not offered"),
        ("state.a.join(state.b)", "dyn", "join() with a computed separator is not offered"),
        ("(" * 200 + "1" + ")" * 200, "dyn", "recursion limit"),
    ],
)
def test_what_does_not_compile_names_place_and_reason(text: str, expect: Any, says: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, expect)

    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expect", "says"),
    [
        ("state.nope", "dyn", "the key 'nope' is missing: ask has(state.nope) first"),
        ("state.a.deep", "dyn", "ask has(state.a.deep) first"),
        ("state.n", "str", "gives a number, not a string"),
        ("state.n", "bool", "gives a number, not a boolean"),
        ("1.0 / 0.0", "dyn", "gives inf, which JSON does not have"),
        ("{1: 2}", "dyn", "keys are strings"),
        ("b'x'", "dyn", "JSON does not have"),
        ("state.n / 0", "dyn", "divide by zero"),
        ("state.many.map(x, state.many.map(y, x * y))", "list", "Iteration budget exceeded"),
    ],
)
def test_what_cannot_be_evaluated_says_why(text: str, expect: Any, says: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, expect).evaluate({"a": {}, "n": 3, "many": list(range(200))})

    assert says in str(caught.value)


@pytest.mark.parametrize("value", ["a\0b", ["\0"], {"k": "\0"}, {"\0": 1}])
def test_a_nul_character_is_refused_not_cut_at(value: Any) -> None:
    with pytest.raises(ExpressionError, match="NUL character: take U\\+0000 out"):
        compile_expression("state.value").evaluate({"value": value})


@pytest.mark.parametrize("state", [{"a": object()}, {"a": 2**80}, {"a": "\ud800"}])
def test_a_state_that_is_not_json_is_an_error_of_ours(state: dict[str, Any]) -> None:
    with pytest.raises(ExpressionError):
        compile_expression("state.a").evaluate(state)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("state.a + state['b'] + state.?c.orValue('') + state[?\"d\"].orValue('')", ["a", "b", "c", "d"]),
        ("'state.no' == d.state.no // state.no", []),
        ("r'\\' + state . x", ["x"]),
        ('"""state.no""" + state.yes', ["yes"]),
        ("state.size() + state[key]", []),
        ("statement.a + state", []),
    ],
)
def test_keys_that_an_expression_reads(text: str, keys: list[str]) -> None:
    assert [key for key, _ in keys_read(text)] == keys


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_without_failing(text: str) -> None:
    keys_read(text)


def test_a_rule_holds_or_not_and_says_when_it_cannot_be_asked() -> None:
    rule = Rule("self.a < self.b", "a below b")

    assert rule.holds({"a": 1, "b": 2})
    assert not rule.holds({"a": 2, "b": 2})
    with pytest.raises(ExpressionError):
        rule.holds({"a": 1})
