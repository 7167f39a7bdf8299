"""Checks a run's input against the workflow's own JSON Schema."""

from __future__ import annotations

from typing import Any, Final

from cortex_kinds.inputschema import broken_rule
from cortex_kinds.workflow import CortexWorkflow
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from cortex_workloads.gateway.body import pointer
from cortex_workloads.runtime.catalogue import Resource
from cortex_workloads.runtime.errors import FailedPrecondition, InvalidInput

_SHOWN: Final = 100


def check(workflow: Resource, value: dict[str, Any]) -> None:
    """Raises InvalidInput with every violation, by JSON pointer; FailedPrecondition when the schema itself is wrong."""
    assert isinstance(workflow.model, CortexWorkflow)
    schema = workflow.model.spec.input.schema_
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise FailedPrecondition(
            f"{workflow} has an input schema that is not valid: {broken_rule(error)}",
            remedy="correct spec.input.schema",
        ) from None
    found = sorted(
        Draft202012Validator(schema).iter_errors(value), key=lambda error: list(map(str, error.absolute_path))
    )
    if not found:
        return
    violations = [(pointer(["input", *error.absolute_path]), broken_rule(error)) for error in found[:_SHOWN]]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    raise InvalidInput(
        f"the input does not fit {workflow}: {violations[0][0]}: {violations[0][1]}{more}",
        remedy="correct the input: spec.input.schema of the workflow says what it takes",
        violations=violations,
    )
