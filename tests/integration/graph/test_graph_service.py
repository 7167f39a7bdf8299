"""A run through a real pod: what it answers, what it refuses, what it keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.json_format import MessageToDict

Define = Callable[..., dict[str, Any]]


def kinds(events: list[Any]) -> list[str]:
    return [event.WhichOneof("event") for event in events]


async def test_a_question_is_answered_with_its_source(client: Any, define: Define, index: Any) -> None:
    revision = await client.ensure(define())
    events = await client.run({"question": "How heavy is a blue whale?"})
    output = MessageToDict(events[-1].completed.output)
    assert kinds(events) == [
        "started",
        *("step", "step", "partial", "progress"),
        *("step", "step", "progress"),
        *("step", "step", "partial", "progress"),
        "completed",
    ]
    assert events[0].started.revision == revision.id
    assert "150 tonnes" in output["answer"]
    assert output["sources"][0]["id"] == "whale"
    assert output["sources"][0]["index"] == "papers"
    assert events[6].step.message == "to answer: no case holds"
    assert all(event.event_id for event in events)
