"""Messages as JSON."""

from __future__ import annotations

import orjson
import pytest
from cortex_workloads.gateway import render
from datapunk.cortex.common_pb2 import (
    Fallback,
    Hit,
    PartialResult,
    RunEvent,
    RunFailed,
    RunProgress,
    RunStarted,
    SearchResult,
    StepEvent,
)
from google.protobuf.struct_pb2 import Struct


def struct(**values: object) -> Struct:
    made = Struct()
    made.update(values)
    return made


def test_whole_numbers_have_no_point() -> None:
    assert render.struct(struct(a=8, b=1.5, c=[1, {"d": 2}], e=True, f=None)) == {
        "a": 8, "b": 1.5, "c": [1, {"d": 2}], "e": True, "f": None,
    }  # fmt: skip
    assert isinstance(render.struct(struct(a=8))["a"], int)


def test_ranks_are_there_only_when_a_leg_found_the_hit() -> None:
    result = SearchResult(hits=[Hit(id="1", vector_rank=2), Hit(id="2", text_rank=1)])
    hits = render.search_result(result)["hits"]
    assert [(hit.get("vectorRank"), hit.get("textRank")) for hit in hits] == [(2, None), (None, 1)]


def test_a_fallback_is_named_with_its_age_and_a_real_answer_has_neither() -> None:
    kept = SearchResult(fallback=Fallback.FALLBACK_STALE_ANSWER)
    kept.age.FromMilliseconds(1500)
    shown = render.search_result(kept)
    assert (shown["fallback"], shown["ageSeconds"]) == ("StaleAnswer", 1.5)
    assert render.search_result(SearchResult(fallback=Fallback.FALLBACK_TEXT_ONLY))["fallback"] == "TextOnly"
    assert not {"fallback", "ageSeconds"} & set(render.search_result(SearchResult()))


@pytest.mark.parametrize(
    ("event", "name", "fields"),
    [
        (RunEvent(started=RunStarted(thread_id="t", attempt=2)), "started", {"threadId": "t", "attempt": 2}),
        (
            RunEvent(step=StepEvent(node="n", phase="PHASE_FAILED", message="m")),
            "step",
            {"phase": "Failed", "message": "m"},
        ),
        (RunEvent(progress=RunProgress(steps=1, steps_limit=9)), "progress", {"steps": 1, "stepsLimit": 9}),
        (RunEvent(partial=PartialResult(node="n", update=struct(x=1))), "partial", {"node": "n", "update": {"x": 1}}),
        (RunEvent(failed=RunFailed(code="C", message="m")), "failed", {"code": "C", "message": "m", "node": ""}),
    ],
)
def test_an_event_is_flat(event: RunEvent, name: str, fields: dict[str, object]) -> None:
    event.run_id = "r"
    got_name, got = render.event(event)
    assert got_name == name
    assert got.items() >= {"runId": "r", **fields}.items()


def test_numbers_beyond_64_bits_can_be_written_as_json() -> None:
    assert orjson.loads(orjson.dumps(render.struct(struct(n=1e20, m=-1e300)))) == {"n": 1e20, "m": -1e300}
