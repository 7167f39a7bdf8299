"""CEL, the language of expressions in manifests and of the rules in the CRDs.

Shields from the CEL library: its types, its error texts, its values. Compile once, evaluate often (tens of
microseconds). An evaluation ends: the library allows 10,000 iterations, and functions whose result can be the product
of two long texts are not offered.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, Literal

from cel_expr_python import cel

from cortex_kinds.celtext import unbounded_call

_CONFIG: Final = "extensions:\n  - name: strings\n  - name: optional\n  - name: math\n"
Expect = Literal["bool", "str", "list", "dyn"]
_TYPES: Final[dict[str, tuple[str, str, type]]] = {
    "bool": ("BOOL", "a boolean", bool),
    "str": ("STRING", "a string", str),
    "list": ("LIST", "a list", list),
    "dyn": ("", "a value", object),
}
_POSITION: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_MISSING_KEY: Final = re.compile(r'Key not found in map : "(.*)"')


class ExpressionError(ValueError):
    """An expression that does not compile, or cannot be evaluated over a state."""

    def __init__(self, expression: str, reason: str, remedy: str = "") -> None:
        super().__init__(f"{expression!r}: {reason}" + (f": {remedy}" if remedy else ""))
        self.expression = expression
        self.reason = reason
        self.remedy = remedy


class Expression:
    """A compiled expression over one variable, `state`: a map from key to JSON value."""

    def __init__(self, text: str, program: Any, expect: Expect) -> None:
        self.text = text
        self._program = program
        self._expect = expect

    def evaluate(self, state: Mapping[str, Any]) -> Any:
        """The value as plain JSON-able Python. Raises ExpressionError: a key that is missing, a result of another
        type than expected, a value that JSON does not have, a state with NUL characters, too many iterations."""
        if _has_nul(dict(state)):
            # The library would silently cut the text there.
            raise ExpressionError(
                self.text, "the state has a text with a NUL character", "take U+0000 out of the input"
            )
        try:
            result = self._program.eval(data={"state": state})
        except (RuntimeError, TypeError) as error:
            raise ExpressionError(self.text, _first_line(error)) from error
        if result.type().name() == "ERROR":
            raise _evaluation_error(self.text, str(result.value()))
        value = self._plain(result)
        _, wanted, python_type = _TYPES[self._expect]
        if not isinstance(value, python_type):
            raise ExpressionError(self.text, f"gives {found_type(value)}, not {wanted}")
        return value

    def _plain(self, result: Any) -> Any:
        try:
            return _json(result.plain_value())
        except (TypeError, ValueError, RuntimeError) as error:
            reason = str(error) if isinstance(error, _NotJson) else "gives a value that JSON does not have"
            raise ExpressionError(self.text, reason, "convert it, for example with string(...)") from error


def compile_expression(text: str, expect: Expect | None = None) -> Expression:
    """Compiles an expression over `state`; `expect` is the type of its result ("dyn" or None: any).

    Raises ExpressionError naming the position (line and column from 1) and the reason.
    """
    if call := unbounded_call(text):
        raise ExpressionError(text, f"{call} is not offered, its result can be too large", "see the reference of CEL")
    program = _compile(_state_env(), text)
    given, (wanted, words, _) = program.return_type().name(), _TYPES[expect or "dyn"]
    if "optional_type" in given:
        raise ExpressionError(text, "is an optional value", "end it with .orValue(...)")
    if wanted and given != "DYN" and not given.startswith(wanted):
        raise ExpressionError(text, f"is of type {given.lower()}, not {words}")
    return Expression(text, program, expect or "dyn")


class Rule:
    """A rule of a CRD (`x-kubernetes-validations`) over `self`: the API server and the offline checks evaluate the
    same text. `field` is the field it is about, as a JSON path below `self` (`.name`), where there is one."""

    def __init__(self, rule: str, message: str, field: str = "") -> None:
        self.rule = rule
        self.message = message
        self.field = field

    def holds(self, value: Mapping[str, Any]) -> bool:
        """Whether the rule holds for an object in its manifest form. Raises ExpressionError when it cannot be said."""
        result = _rule_program(self.rule).eval(data={"self": value})
        if result.type().name() != "BOOL":
            raise ExpressionError(self.rule, str(result.value()))
        return bool(result.value())


@cache
def _state_env() -> cel.Env:
    variables = {"state": cel.Type.Map(cel.Type.STRING, cel.Type.DYN)}
    return cel.NewEnv(config=cel.NewEnvConfigFromYaml(_CONFIG), variables=variables)


@cache
def _rule_program(rule: str) -> Any:
    return _compile(cel.NewEnv(variables={"self": cel.Type.DYN}), rule)


def _compile(env: cel.Env, text: str) -> Any:
    try:
        return env.compile(text)
    except RuntimeError as error:
        found = _POSITION.search(str(error))
        if not found:
            raise ExpressionError(text, _first_line(error)) from error
        line, column, reason = found.groups()
        where = f"column {column}" if line == "1" else f"line {line}, column {column}"
        raise ExpressionError(text, f"{where}: {_shorter(reason)}") from error


def _shorter(reason: str) -> str:
    reason = reason.removesuffix(" [INVALID_ARGUMENT]").replace(" (in container '')", "")
    if reason.startswith("undeclared reference"):
        reason += "; what an expression can read is `state`"
    return re.sub(r" expecting \{.*\}", "", reason)


def _first_line(error: Exception) -> str:
    return re.sub(r"^[A-Z_]+: ", "", str(error).splitlines()[0]).split(" [")[0]


def _evaluation_error(text: str, message: str) -> ExpressionError:
    missing = _MISSING_KEY.search(message)
    if not missing:
        return ExpressionError(text, re.sub(r"^[A-Z_]+: ", "", message))
    key = missing[1]
    path = re.search(rf"\bstate[\w.]*\.{re.escape(key)}\b", text)
    remedy = f"ask has({path[0]}) first, or see that it is written" if path else "see that it is written"
    return ExpressionError(text, f"the key {key!r} is missing", remedy)


def _has_nul(value: Any) -> bool:
    # Looks at everything before each evaluation: chains of `is` cost half of what match does.
    kind = type(value)
    if kind is str:
        return "\0" in value
    if kind is list:
        return any(_has_nul(item) for item in value)
    return kind is dict and any("\0" in key or _has_nul(item) for key, item in value.items() if type(key) is str)


class _NotJson(ValueError):
    pass


def _json(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if not math.isfinite(value):
                raise _NotJson(f"gives {value}, which JSON does not have")
            return value
        case list():
            return [_json(item) for item in value]
        case dict():
            return {_key(key): _json(item) for key, item in value.items()}
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return f"{value.total_seconds():g}s"
    raise _NotJson(f"gives a {type(value).__name__}, which JSON does not have")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise _NotJson(f"gives a map with the key {key!r}; keys are strings")
    return key


_FOUND: Final = {
    "NoneType": "null", "bool": "a boolean", "int": "a number", "float": "a number",
    "str": "a string", "list": "a list", "dict": "a map",
}  # fmt: skip


def found_type(value: Any) -> str:
    """What a JSON value is, in words: `a string`."""
    return _FOUND.get(type(value).__name__, "a value of another type")
