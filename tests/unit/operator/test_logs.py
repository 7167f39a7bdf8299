"""What the operator's log makes of what kopf says."""

from __future__ import annotations

import json
import logging

import pytest
from cortex_operator import logs


def test_a_request_that_is_tried_again_is_a_warning_once_in_a_while(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, kopf = logging.getLogger(), logging.getLogger("kopf")
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(kopf, "level", kopf.level)
    logs.configure("INFO", "operator-1")
    requests = logging.getLogger("kopf._cogs.clients.api")
    for attempt in range(5):
        requests.error(f"Request attempt #{attempt}/11 failed; will retry: GET /x")
    requests.error("something that nobody expected")
    requests.error("the task has failed: with a trace")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["level"], line["message"].partition(" failed")[0]) for line in lines] == [
        ("WARNING", "Request attempt #0/11"),
        ("ERROR", "something that nobody expected"),
    ]
