"""JSON logs, W3C trace context and Prometheus metrics of a process.

Shields the services from OpenTelemetry and prometheus_client: the trace context is always there (logs and errors name
it, calls carry it), spans leave the process only when `otlp_endpoint` is set.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector

if TYPE_CHECKING:
    from cortex_workloads.runtime.settings import Settings

REGISTRY: Final = CollectorRegistry()
"""Every metric of this process; `/metrics` shows it. Make your own metrics with `registry=REGISTRY`."""
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)
CALLS: Final = Histogram(
    "cortex_grpc_server_seconds", "Calls answered", ("service", "method", "code"), buckets=_SECONDS, registry=REGISTRY
)
REQUESTS: Final = Histogram(
    "cortex_http_server_seconds",
    "Requests answered",
    ("method", "route", "status"),
    buckets=_SECONDS,
    registry=REGISTRY,
)
ERRORS: Final = Counter(
    "cortex_errors_total", "Errors told to callers, by gRPC and by HTTP", ("family", "type"), registry=REGISTRY
)
STATE_FAILURES: Final = Counter(
    "cortex_state_failures_total", "What the shared state did not take or give", ("operation",), registry=REGISTRY
)
for _collector in (ProcessCollector, PlatformCollector, GCCollector):
    _collector(registry=REGISTRY)

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_NO_TRACE: Final = "0" * 32
_provider = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)


def configure(settings: Settings, service: str) -> None:
    """Sets up the logs of this process and, when asked for, the export of traces."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(service, settings.pod))
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    for noisy in ("httpx", "asyncio", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if settings.otlp_endpoint:
        _export(settings, service)


def _export(settings: Settings, service: str) -> None:
    # Imported here: it costs 0.2 s and is rarely wanted.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    global _provider
    resource = Resource.create({"service.name": service, "k8s.pod.name": settings.pod})
    insecure = not settings.otlp_endpoint.startswith("https://")
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(settings.otlp_endpoint, insecure=insecure)))


def tracer() -> trace.Tracer:
    """Makes spans: `with telemetry.tracer().start_as_current_span("embed"): ...`."""
    return _provider.get_tracer("cortex")


def flush() -> None:
    """Sends the spans that still wait. To be called once, at the end of the process."""
    _provider.force_flush(2000)


def context_from(headers: Iterable[tuple[str, str | bytes]]) -> Context:
    """The caller's trace context, from gRPC metadata or HTTP headers."""
    carrier = {key: _text(value) for key, value in headers if key in ("traceparent", "tracestate")}
    return _PROPAGATOR.extract(carrier)


def headers() -> dict[str, str]:
    """The current trace context, to send along: `traceparent`, and `tracestate` when there is one."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier


def trace_id() -> str:
    """The current trace id, 32 hex digits; all zero outside a call."""
    span = trace.get_current_span().get_span_context()
    return format(span.trace_id, "032x") if span.is_valid else _NO_TRACE


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, message, logger, service, pod, traceId, spanId, and what was given as
    `extra=`."""

    def __init__(self, service: str, pod: str) -> None:
        super().__init__()
        self._constant = {"service": service, "pod": pod}

    def format(self, record: logging.LogRecord) -> str:
        """One line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            **self._constant,
            **_span_fields(),
            **_extra(record.__dict__),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


_STANDARD: Final = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message", "asctime", "taskName", "color_message",
}  # fmt: skip


def _extra(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in _STANDARD}


def _span_fields() -> dict[str, str]:
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {"traceId": format(span.trace_id, "032x"), "spanId": format(span.span_id, "016x")}


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
