"""Logs are JSON with the trace; the W3C context comes in and goes out."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from cortex_workloads.runtime import telemetry

TRACE = "0af7651916cd43dd8448eb211c80319c"


def formatted(message: str, *args: Any, **fields: Any) -> dict[str, Any]:
    record = logging.LogRecord("cortex.test", logging.INFO, "f.py", 1, message, args, fields.pop("exc_info", None))
    record.__dict__ |= fields
    line = telemetry.JsonFormatter("search", "pod-1").format(record)
    assert "\n" not in line
    return dict(json.loads(line))


def test_a_line_has_its_fields_and_the_extra_ones() -> None:
    line = formatted("took %d", 5, index="papers", odd=object(), nested={1: {"a"}})
    assert (line["message"], line["level"], line["logger"]) == ("took 5", "INFO", "cortex.test")
    assert (line["service"], line["pod"], line["index"]) == ("search", "pod-1", "papers")
    assert line["time"].endswith("+00:00")
    assert "traceId" not in line
    assert "lineno" not in line


def test_an_exception_is_one_line_too() -> None:
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        line = formatted("failed", exc_info=sys.exc_info())
    assert "ValueError: broken\nin two" in line["exception"]


def test_the_callers_trace_is_continued_and_logged() -> None:
    context = telemetry.context_from([("traceparent", f"00-{TRACE}-b7ad6b7169203331-01".encode()), ("x", "y")])
    with telemetry.tracer().start_as_current_span("work", context=context):
        assert telemetry.trace_id() == TRACE
        assert formatted("inside")["traceId"] == TRACE
        sent = telemetry.headers()["traceparent"].split("-")
        assert sent[1] == TRACE
        assert sent[2] != "b7ad6b7169203331"
    assert telemetry.trace_id() == "0" * 32
    assert telemetry.headers() == {}


def test_a_trace_begins_where_none_came() -> None:
    for headers in ([], [("traceparent", "nonsense")]):
        with telemetry.tracer().start_as_current_span("work", context=telemetry.context_from(headers)):
            assert int(telemetry.trace_id(), 16)
