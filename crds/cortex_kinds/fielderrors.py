"""What pydantic finds wrong with a manifest, in words for those who write manifests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cortex_kinds.base import DNS_LABEL, DNS_SUBDOMAIN, DURATION, IDENTIFIER, QUANTITY, BrokenRules
from cortex_kinds.cel import found_type
from cortex_kinds.labels import LABEL_KEY, LABEL_VALUE
from cortex_kinds.network import CIDR_TEXT, PORT_NAME
from cortex_kinds.paths import Path, path_text
from cortex_kinds.problems import sentence
from cortex_kinds.suggest import did_you_mean

Found = tuple[Path, str, str]
"""Path, reason, hint."""

_PATTERNS: Final = {
    DNS_LABEL: "a name of a-z, 0-9 and -, with a letter or digit at both ends",
    DNS_SUBDOMAIN: "a name of a-z, 0-9, - and ., with a letter or digit at both ends",
    DURATION: "a duration such as 500ms, 10s, 5m or 1h30m",
    QUANTITY: "a quantity such as 500m, 2, 512Mi or 4Gi",
    IDENTIFIER: "a key of a-z, A-Z, 0-9 and _, not beginning with a digit",
    LABEL_KEY: "the name of a label, such as zone or topology.kubernetes.io/zone",
    LABEL_VALUE: "the value of a label: letters, digits, -, _ and ., with a letter or digit at both ends",
    CIDR_TEXT: "a CIDR such as 10.0.0.0/8 or 2001:db8::/32",
    PORT_NAME: "a port's number, or its name of a-z, 0-9 and -",
}
_WANTED: Final = {
    "string_type": "a string", "int_type": "a whole number", "int_from_float": "a whole number",
    "model_type": "a map", "model_attributes_type": "a map", "dict_type": "a map", "list_type": "a list",
    "bool_type": "true or false", "quantity_type": "a string or a whole number",
}  # fmt: skip


def sentences(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """All that pydantic found, one sentence for each mistake; `model` is the one that was validated."""
    return [sentence(path_text(path), *rest) for one in error.errors() for path, *rest in explain(one, model)]


def explain(error: ErrorDetails, model: type[BaseModel]) -> list[Found]:
    """One error of pydantic's as mistakes; `model` is the one that was validated."""
    path = tuple(part for part in error["loc"] if part != "[key]")
    value, context, kind = error["input"], error.get("ctx", {}), error["type"]
    if isinstance(broken := context.get("error"), BrokenRules):
        return [((*path, *filter(None, rule.field.split("."))), rule.message, "") for rule in broken.rules]
    if kind == "value_error":
        return [(path, str(broken), "")]
    match kind:
        case "extra_forbidden":
            return [(path, "there is no such field", _field_hint(str(path[-1]), model, path[:-1]))]
        case "missing":
            return [(path, "is missing", "it is required")]
        case "enum" | "literal_error":
            return [_choice(path, value, str(context.get("expected", "")))]
        case "string_pattern_mismatch":
            wanted = _PATTERNS.get(str(context["pattern"]), f"text that matches {context['pattern']}")
            return [(path, f"{_short(value)} is not {wanted}", "")]
        case _ if kind in _WANTED:
            found = f"found {found_type(value)} {_short(value)}".rstrip()
            return [(path, f"wants {_WANTED[kind]}, {found}", _quotes_hint(kind, value))]
    return [(path, _bound(kind, value, context) or error["msg"], "")]


def _quotes_hint(kind: str, value: Any) -> str:
    wants_text = kind == "string_type" or (kind == "quantity_type" and not isinstance(value, bool))
    return f'write "{value}" in quotes' if wants_text and isinstance(value, int | float) else ""


def _choice(path: Path, value: Any, expected: str) -> Found:
    choices = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
    listed = " or ".join(", ".join(choices).rsplit(", ", 1))
    return path, f"{_short(value)} is not {listed}", did_you_mean(str(value), choices)


def _bound(kind: str, value: Any, context: Mapping[str, Any]) -> str:
    match kind:
        case "greater_than_equal":
            return f"is at least {context['ge']}, found {_short(value)}"
        case "less_than_equal":
            return f"is at most {context['le']}, found {_short(value)}"
        case "string_too_short":
            return f"has at least {_count(context['min_length'], 'character')}, found {len(value)}"
        case "string_too_long":
            return f"has at most {context['max_length']} characters, found {len(value)}"
        case "too_short":
            return f"has at least {_count(context['min_length'], 'item')}, found {len(value)}"
        case "too_long":
            return f"has at most {context['max_length']} items, found {len(value)}"
    return ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _short(value: Any) -> str:
    if isinstance(value, Mapping | list):
        return ""
    text = repr(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _field_hint(name: str, model: type[BaseModel], parents: Path) -> str:
    here = _model_at(model, parents)
    if here is None:
        return ""
    known = field_names(here)
    return did_you_mean(name, known) or (f"there are {', '.join(sorted(known))}" if known else "write {}: it has none")


def field_names(model: type[BaseModel]) -> list[str]:
    """The names of a model's fields in a manifest."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(model: type[BaseModel], path: Iterable[str | int]) -> type[BaseModel] | None:
    here: Any = model
    for part in path:
        if isinstance(part, int):
            continue
        fields = {f.alias or name: f.annotation for name, f in here.model_fields.items()} if here else {}
        here = _model_in(fields.get(part))
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, list):
        return next((found for member in get_args(annotation) if (found := _model_in(member))), None)
    return None
