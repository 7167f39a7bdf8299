"""The operator's logs: one line of JSON per record, as the workloads write them; plain lines on a terminal."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import Any, Final

_PLAIN: Final = "%(asctime)s %(levelname)-7s %(message)s"
_KOPF_SECONDS: Final = 30.0
_STANDARD: Final = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message",
    "asctime",
    "taskName",
}


def configure(level: str, pod: str) -> None:
    """Sets up the logs of this process, on stdout."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(_PLAIN) if sys.stdout.isatty() else JsonFormatter("operator", pod))
    handler.addFilter(_Calm())
    logging.basicConfig(handlers=[handler], level=level, force=True)
    if level != "DEBUG":
        logging.getLogger("kopf").setLevel(logging.ERROR)
        logging.getLogger("asyncio").setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """time, level, message, logger, service, pod, and what was given as `extra=`."""

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
            **{key: value for key, value in record.__dict__.items() if key not in _STANDARD},
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, default=str)


class _Calm(logging.Filter):
    """Lets kopf tell of a failed request once in a while, as each of its watches tells of each try, and as of something
    that is tried again; and not of a task that failed, as that comes out of kopf as an error."""

    def __init__(self) -> None:
        super().__init__()
        self._told = -_KOPF_SECONDS

    def filter(self, record: logging.LogRecord) -> bool:
        text = str(record.msg)
        if not record.name.startswith("kopf"):
            return True
        if " has failed: " in text:
            return False
        if not text.startswith("Request attempt"):
            return True
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return self._is_time()

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._told < _KOPF_SECONDS:
            return False
        self._told = now
        return True
