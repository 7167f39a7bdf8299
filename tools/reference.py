"""The reference pages, from the CRDs, conditions and errors; shields them from being written by hand, and stale."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

from cortex_kinds import conditions, events
from cortex_kinds.crd import KINDS, Kind, crd
from cortex_kinds.structural import plain
from cortex_workloads.runtime import errors, reasons

AS_IN_A_POD = ("affinity",)
"""Fields whose inner ones are Kubernetes's own, and described there."""
NOTE = "<!-- Made by `make generate`; change the models, not this page. -->\n"


def pages() -> dict[str, str]:
    """File name below docs/reference -> text."""
    return {f"{kind.name.lower()}.md": _kind_page(kind) for kind in KINDS} | {
        "conditions.md": _conditions_page(),
        "errors.md": _errors_page(),
        "events.md": _events_page(),
    }


def _kind_page(kind: Kind) -> str:
    definition = crd(kind)
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    lines = [
        NOTE,
        f"# {kind.name}",
        f"`{definition['spec']['group']}/v1alpha1`, short name `{kind.short}`. {schema['description']}",
        "",
        *_rules(schema),
    ]
    for part in ("spec", "status"):
        lines += [f"## {part}", schema["properties"][part]["description"], "", *_table(schema["properties"][part])]
    return "\n".join(lines).rstrip() + "\n"


def _table(schema: dict[str, Any]) -> list[str]:
    rows = [f"| `{path}` | {_type(field, required)} | {_text(field)} |" for path, field, required in _fields(schema)]
    return ["| field | type | |", "|---|---|---|", *rows, ""]


def _fields(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path, field, name in schema.get("required", ())
        if name in AS_IN_A_POD:
            continue
        yield from _fields(field, f"{path}.")
        yield from _fields(field.get("items", {}), f"{path}[].")


def _type(field: dict[str, Any], required: bool) -> str:
    words = " or ".join(f"`{word}`" for word in field.get("enum", ())) or _shape(field)
    bounds = [
        text.format(field[key])
        for key, text in {
            "minimum": "at least {:,}", "maximum": "at most {:,}", "maxLength": "at most {:,} characters",
            "maxItems": "at most {:,}", "maxProperties": "at most {:,}",
        }.items()
        if key in field and "enum" not in field
    ]  # fmt: skip
    default = [f"default `{field['default']}`"] if "default" in field else []
    return ", ".join([words, *bounds, *default, *(["**required**"] if required else [])])


def _shape(field: dict[str, Any]) -> str:
    if "items" in field:
        return f"list of {field['items']['type']}s"
    if "additionalProperties" in field:
        value = field["additionalProperties"]
        return "map of strings or whole numbers" if "type" not in value else f"map of {value['type']}s"
    return str(field.get("type", "string or whole number"))


def _text(field: dict[str, Any]) -> str:
    rules = [f"Rule: {rule['message']}." for rule in _rules_within(field)]
    return " ".join([field["description"], *rules]).replace("|", "\\|")


def _rules_within(field: dict[str, Any]) -> list[dict[str, Any]]:
    return [*field.get("x-kubernetes-validations", ()), *field.get("items", {}).get("x-kubernetes-validations", ())]


def _rules(schema: dict[str, Any]) -> list[str]:
    rules = schema.get("x-kubernetes-validations", ())
    return [*(f"- {rule['message']}." for rule in rules), ""] if rules else []


def _conditions_page() -> str:
    types, reasons = _members(conditions.ConditionType), _members(conditions.Reason)
    return "\n".join([
        NOTE, "# Conditions and reasons", plain(conditions.__doc__ or ""), "",
        "## Conditions", "| type | |", "|---|---|", *types, "",
        "## Reasons", "Stable: alerts and scripts may rely on them.", "", "| reason | |", "|---|---|", *reasons, "",
    ])  # fmt: skip


def _events_page() -> str:
    def type(reason: str) -> str:
        return f" {events.Notice(events.EventReason(reason), '').type} |"

    return "\n".join([
        NOTE, "# Events", plain(events.__doc__ or ""), plain(events.EventReason.__doc__ or ""), "",
        "| reason | type | |", "|---|---|---|", *_members(events.EventReason, type), "",
    ])  # fmt: skip


_ERRORS = f"""\
What a caller is told: by HTTP as `application/problem+json` (RFC 9457), by gRPC as a status with `google.rpc` details.

| | problem+json | gRPC |
|---|---|---|
| reason | `reason`, and the end of `type` ({errors.TYPE_PREFIX}REASON) | `ErrorInfo.reason`, domain `{errors.DOMAIN}` |
| type | `title`, `status` | the status code, `ErrorInfo.metadata["type"]` |
| family | `family` | `ErrorInfo.metadata["family"]` |
| may the same be tried again? | `retryable` | `ErrorInfo.metadata["retryable"]` |
| when to try again | the header `Retry-After` | `RetryInfo.retry_delay` |
| what happened | `detail` | the status message |
| what to do | `remedy` | `ErrorInfo.metadata["remedy"]` |
| what is wrong in which field | `errors` (`field`, `message`) | `BadRequest.field_violations` |

Codes are CamelCase and stable; texts are for people and may change. Passwords of addresses are shown as `***`. \
`/metrics` counts the errors that a pod told: `cortex_errors_total`, by `family` and `type`.
"""


def _errors_page() -> str:
    return "\n".join([
        NOTE, "# Errors", _ERRORS,
        "## Families", plain(errors.Family.__doc__ or ""), "",
        "| family | |", "|---|---|", *_members(errors.Family), "",
        "## Types", "The type is the reason of an error that has none of those below.", "",
        "| type | family | gRPC | HTTP | to be tried again | |", "|---|---|---|---|---|---|", *_error_types(), "",
        "## Reasons", "When a resource does not answer, the reason may also be that of its condition `Ready`:"
        " [conditions](conditions.md).", "",
        "| reason | type | meaning | remedy |", "|---|---|---|---|", *_reasons(), "",
    ])  # fmt: skip


def _error_types() -> Iterator[str]:
    for kind, row in errors.TABLE.items():
        if kind is not errors.CortexError:
            again = "no" if row.retry_after is None else f"after {row.retry_after:g} s"
            text = plain(kind.__doc__ or "")
            yield f"| `{row.reason}` | `{row.family}` | {row.code.name} | {row.http} | {again} | {text} |"


def _reasons() -> Iterator[str]:
    for name, reason in sorted(reasons.REASONS.items()):
        types = ", ".join(f"`{errors.row(kind).reason}`" for kind in reason.types)
        yield f"| `{name}` | {types} | {reason.meaning} | {reason.remedy} |"


def _members(enum: type[StrEnum], more: Callable[[str], str] = lambda _: "") -> list[str]:
    """The members of an enumeration as rows of a table, described by the docstring below each; `more` gives the cells
    between."""
    tree = ast.parse(inspect.getsource(enum)).body[0]
    assert isinstance(tree, ast.ClassDef)
    rows = []
    for statement, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(statement, ast.Assign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            name = statement.targets[0]
            assert isinstance(name, ast.Name)
            member = enum[name.id].value
            rows.append(f"| `{member}` |{more(member)} {plain(str(below.value.value))} |")
    return rows
