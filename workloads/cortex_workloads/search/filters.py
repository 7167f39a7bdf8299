"""Haystack metadata filters -> a parameterised SQL condition on `documents d`.

Nothing of a filter becomes SQL text: fields and values are parameters, operators come from a table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from cortex_workloads.runtime.errors import InvalidInput
from cortex_workloads.search.documents import text_mistake

MAX_DEPTH: Final = 16
MAX_CONDITIONS: Final = 256
MAX_VALUES: Final = 1_000
MAX_FIELD: Final = 512

_ORDER: Final = {">": ">", ">=": ">=", "<": "<", "<=": "<="}
_OPERATORS: Final = ("==", "!=", *_ORDER, "in", "not in")
_LOGIC: Final = {"AND": " AND ", "OR": " OR ", "NOT": " AND "}
_COLUMNS: Final = {"id": "d.document", "title": "d.title"}
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?")
_SQL_DATE: Final = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$"


@dataclass(frozen=True)
class Condition:
    """A WHERE condition on `documents d` and its parameters; never NULL."""

    sql: str
    parameters: Mapping[str, Any]


def compile_filter(filters: Mapping[str, Any] | None) -> Condition | None:
    """The condition; None for no filter. Raises InvalidInput naming the part of the filter that is wrong."""
    if not filters:
        return None
    compiler = _Compiler()
    return Condition(compiler.node(filters, "filter", 0), compiler.parameters)


@dataclass
class _Compiler:
    parameters: dict[str, Any] = field(default_factory=dict)
    conditions: int = 0

    def node(self, node: Any, path: str, depth: int) -> str:
        if depth >= MAX_DEPTH:
            raise _wrong(path, f"is nested deeper than {MAX_DEPTH} levels")
        if not isinstance(node, Mapping):
            raise _wrong(path, "is not an object: {field, operator, value} or {operator, conditions} is expected")
        if "field" in node:
            return self._comparison(node, path)
        return self._logic(node, path, depth)

    def _logic(self, node: Mapping[str, Any], path: str, depth: int) -> str:
        _only(node, ("operator", "conditions"), path)
        operator, conditions = node.get("operator"), node.get("conditions")
        if operator not in _LOGIC:
            raise _wrong(f"{path}.operator", f"is {operator!r}; AND, OR or NOT is expected (or `field` is missing)")
        if not isinstance(conditions, list) or not conditions:
            raise _wrong(f"{path}.conditions", "is not a list of at least one condition")
        parts = [self.node(part, f"{path}.conditions[{index}]", depth + 1) for index, part in enumerate(conditions)]
        joined = "(" + _LOGIC[operator].join(parts) + ")"
        return f"(NOT {joined})" if operator == "NOT" else joined

    def _comparison(self, node: Mapping[str, Any], path: str) -> str:
        _only(node, ("field", "operator", "value"), path)
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise _wrong(path, f"is one condition too many; the limit is {MAX_CONDITIONS}")
        name, operator = node["field"], node.get("operator")
        if operator not in _OPERATORS:
            raise _wrong(f"{path}.operator", f"is {operator!r}; one of {', '.join(_OPERATORS)} is expected")
        if "value" not in node:
            raise _wrong(f"{path}.value", "is missing")
        _check_value(node["value"], f"{path}.value")
        if not isinstance(name, str) or len(name) > MAX_FIELD or text_mistake(name) is not None:
            raise _wrong(f"{path}.field", f"is not the name of a field of at most {MAX_FIELD} characters")
        if name in _COLUMNS:
            return self._on_column(_COLUMNS[name], operator, node["value"], path)
        if not name.startswith("meta.") or "" in name.split("."):
            raise _wrong(f"{path}.field", f"is {name!r}; `id`, `title` or `meta.NAME` is expected")
        return self._on_meta(name.split(".")[1:], operator, node["value"], path)

    def _on_column(self, column: str, operator: str, value: Any, path: str) -> str:
        values = value if operator in ("in", "not in") else [value]
        if operator in _ORDER:
            raise _wrong(f"{path}.operator", f"is {operator!r}, which works on metadata only")
        if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
            raise _wrong(f"{path}.value", "is not text, which `id` and `title` are (a list of texts for `in`)")
        _check_length(values, path)
        return _negated(f"({column} = ANY({self._keep(values)}::text[]))", operator)

    def _on_meta(self, keys: list[str], operator: str, value: Any, path: str) -> str:
        at = f"(d.meta #> {self._keep(keys)}::text[])"
        if operator in _ORDER:
            return self._ordered(at, operator, value, path)
        if operator in ("in", "not in"):
            if not isinstance(value, list):
                raise _wrong(f"{path}.value", f"is not a list, which `{operator}` needs")
            _check_length(value, path)
            return _negated(self._any(at, value), operator)
        return _negated(self._equal(at, keys, value), operator)

    def _equal(self, at: str, keys: list[str], value: Any) -> str:
        if value is None:
            return f"({at} IS NULL OR {at} = 'null'::jsonb)"
        holder = value
        for key in reversed(keys):
            holder = {key: holder}
        # Containment is what the index on `meta` answers; equality is what is asked.
        contains = f"d.meta @> {self._keep(json.dumps(holder))}::jsonb"
        return f"({contains} AND {at} = {self._keep(json.dumps(value))}::jsonb)"

    def _any(self, at: str, values: list[Any]) -> str:
        given = [json.dumps(value) for value in values if value is not None]
        equal = f"coalesce({at} = ANY({self._keep(given)}::jsonb[]), false)"
        missing = f" OR {at} IS NULL OR {at} = 'null'::jsonb" if len(given) < len(values) else ""
        return f"({equal}{missing})"

    def _ordered(self, at: str, operator: str, value: Any, path: str) -> str:
        sign = _ORDER[operator]
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = f"({at} #>> '{{}}')::numeric {sign} {self._keep(str(value))}::numeric"
            return f"(CASE WHEN jsonb_typeof({at}) = 'number' THEN {number} ELSE false END)"
        if isinstance(value, str) and _is_date(value):
            text = f"({at} #>> '{{}}')"
            date = f"{text}::timestamptz {sign} {self._keep(value)}::timestamptz"
            is_date = (
                f"jsonb_typeof({at}) = 'string' AND {text} ~ {self._keep(_SQL_DATE)}"
                f" AND pg_input_is_valid({text}, 'timestamptz')"
            )
            return f"(CASE WHEN {is_date} THEN {date} ELSE false END)"
        raise _wrong(f"{path}.value", f"is {value!r}; `{operator}` compares with a number or an ISO 8601 date")

    def _keep(self, value: Any) -> str:
        name = f"filter_{len(self.parameters)}"
        self.parameters[name] = value
        return f"%({name})s"


def _negated(sql: str, operator: str) -> str:
    compare: Callable[[str], bool] = ("!=", "not in").__contains__
    return f"(NOT coalesce({sql}, false))" if compare(operator) else f"coalesce({sql}, false)"


def _check_value(value: Any, path: str) -> None:
    if isinstance(value, str) and (mistake := text_mistake(value)) is not None:
        raise _wrong(path, mistake)
    if isinstance(value, Mapping):
        raise _wrong(path, "is an object; a text, a number, a boolean, null or a list of these is expected")
    if isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, list):
                raise _wrong(f"{path}[{index}]", "is a list within a list")
            _check_value(item, f"{path}[{index}]")
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        raise _wrong(path, f"is {value}, which is not a JSON number")


def _is_date(text: str) -> bool:
    try:
        return _DATE.fullmatch(text) is not None and datetime.fromisoformat(text).year > 0
    except ValueError:
        return False


def _check_length(values: list[Any], path: str) -> None:
    if len(values) > MAX_VALUES:
        raise _wrong(f"{path}.value", f"has {len(values):,} values; the limit is {MAX_VALUES:,}")


def _only(node: Mapping[str, Any], known: tuple[str, ...], path: str) -> None:
    if unknown := sorted(set(map(str, node)) - set(known)):
        raise _wrong(f"{path}.{unknown[0]}", f"is not known; {', '.join(known)} are")


def _wrong(path: str, message: str) -> InvalidInput:
    return InvalidInput(
        f"the filter is not valid: {path} {message}",
        remedy="fields are meta.*, id and title; operators ==, !=, >, >=, <, <=, in, not in;"
        " AND, OR and NOT have conditions",
        violations=[(path, message)],
    )
