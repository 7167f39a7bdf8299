"""The table of reasons is whole: what the services raise is in it, and nothing else is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cortex_workloads
import pytest
from cortex_workloads.gateway.runs import failure
from cortex_workloads.graph.failures import Code
from cortex_workloads.runtime import errors
from cortex_workloads.runtime.catalogue import INDEX, WORKFLOW, Snapshot
from cortex_workloads.runtime.lake import pool
from cortex_workloads.runtime.reasons import REASONS

SOURCES = Path(cortex_workloads.__file__).parent
TYPES = {kind.__name__: kind for kind in errors.TABLE}
OF_TYPES = {row.reason for row in errors.TABLE.values()}
COMPUTED = {
    ("runtime/catalogue.py", "f'{kind[6:]}NotFound'"): {"IndexNotFound", "WorkflowNotFound"},
    ("runtime/targets.py", "reason"): {"NotReady"},
    ("runtime/targets.py", "error.reason"): {"IndexNotFound", "WorkflowNotFound"},
    ("runtime/lake/pool.py", "REASON"): {pool.REASON},
    ("search/control.py", "error.reason"): {"ModelChanged", "ModelInvalid", "ModelMissing"},
}
"""What is raised with a reason that is not written there: (file, expression) -> the reasons that it can be."""


class Raised(NamedTuple):
    place: str
    type: type[errors.CortexError]
    reason: str


def calls() -> Iterator[tuple[str, str, ast.expr]]:
    """File, name of the error's type, expression of the reason."""
    for path in sorted(SOURCES.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and (name := ast.unparse(call.func).rpartition(".")[2]) in TYPES:
                for keyword in call.keywords:
                    if keyword.arg == "reason":
                        yield str(path.relative_to(SOURCES)), name, keyword.value


def raised() -> Iterator[Raised]:
    for place, name, value in calls():
        reasons = {value.value} if isinstance(value, ast.Constant) else COMPUTED.get((place, ast.unparse(value)))
        assert reasons, f"{place}: say in COMPUTED what {ast.unparse(value)} can be"
        for reason in reasons:
            yield Raised(place, TYPES[name], str(reason))


def test_every_reason_that_is_raised_is_in_the_table_with_its_type() -> None:
    found = list(raised())
    assert len(found) > 40
    assert [one for one in found if one.reason not in REASONS or one.type not in REASONS[one.reason].types] == []


def test_every_reason_of_the_table_is_raised_with_every_type_that_it_names() -> None:
    runs = {(type(error), error.reason) for code in Code if (error := failure("r", code, "x")).reason not in OF_TYPES}
    found = {(one.type, one.reason) for one in raised()} | runs
    assert {(kind, name) for name, reason in REASONS.items() for kind in reason.types} == found


def test_no_reason_is_that_of_a_type_and_each_says_what_to_do() -> None:
    assert not OF_TYPES & REASONS.keys()
    texts = [text for reason in REASONS.values() for text in (reason.meaning, reason.remedy)]
    assert [text for text in texts if not text.endswith(".") or "|" in text] == []


@pytest.mark.parametrize("kind", [INDEX, WORKFLOW])
def test_what_is_not_in_the_catalogue_has_a_reason_of_the_table(kind: str) -> None:
    with pytest.raises(errors.NotFound) as raised:
        Snapshot().get(kind, "default", "x")
    assert raised.value.reason in REASONS
