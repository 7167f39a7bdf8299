"""What is logged of passes that fail: of each resource its own, of what fails whatever resource one line a minute."""

from __future__ import annotations

import logging

import pytest
from cortex_operator.cluster import Conflict, Forbidden, Invalid, Unavailable
from cortex_operator.engine import FailureLog, Outcome, Pass


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said(clock: Clock, caplog: pytest.LogCaptureFixture) -> FailureLog:
    caplog.set_level(logging.INFO, "cortex_operator.engine.hooks")
    return FailureLog(clock)


def failed(key: str, error: Exception) -> Pass:
    return Pass(key, Outcome.FAILED, 0.0, 0.1, 1, 2.0, error)


def may_not(verb: str, resource: str, name: str) -> Forbidden:
    return Forbidden(f"may not {verb} {resource}; grant it: {resource} {name!r} is forbidden", f"{verb} {resource}")


def test_a_right_that_lacks_is_told_once_a_minute_with_how_many_it_was(
    said: FailureLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1000):
        said(failed(f"papers-{number}", may_not("get", "secrets", f"s-{number}")))
    said(failed("papers-0", may_not("patch", "deployments", "d")))
    told = [record.getMessage() for record in caplog.records]
    assert [text.split(";")[0] for text in told] == [
        "papers-0: pass 1 failed, again in 2.0 s: may not get secrets",
        "papers-0: pass 1 failed, again in 2.0 s: may not patch deployments",
    ]
    clock.now += 60
    said(failed("papers-7", may_not("get", "secrets", "s")))
    assert caplog.records[-1].getMessage().startswith("papers-7: ")
    assert caplog.records[-1].getMessage().endswith("(999 more passes failed so since it was told last)")


def test_an_api_server_that_does_not_answer_is_one_line(said: FailureLog, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        said(failed(f"papers-{number}", Unavailable(f"no answer {number}")))
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING


def test_what_is_about_a_resource_is_told_of_each(said: FailureLog, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2):
        said(failed(f"papers-{number}", Invalid("refused")))
        said(failed(f"papers-{number}", Conflict("changed")))
        said(failed(f"papers-{number}", RuntimeError("nobody expected it")))
    levels = [(record.levelno, record.exc_info is not None) for record in caplog.records]
    assert levels == [(logging.WARNING, False), (logging.INFO, False), (logging.WARNING, True)] * 2
