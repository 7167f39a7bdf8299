"""The fallback StaleAnswer at the gateway: when no pod answers, what pods kept in the shared state, marked."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
import redis
from cortex_workloads.gateway import queries
from cortex_workloads.runtime import answers
from cortex_workloads.runtime.answers import Answer
from cortex_workloads.runtime.errors import InvalidInput, Overloaded, Unavailable
from cortex_workloads.runtime.telemetry import REGISTRY
from datapunk.cortex import api_pb2, api_pb2_grpc, common_pb2, search_pb2

SEARCH = "/v1/namespaces/default/indexes/papers/search"
STALE = {"fallback": "StaleAnswer", "reason": "Overloaded"}
BODY = {"query": "bees", "mode": "Text", "filter": {"field": "meta.year"}}


@pytest.fixture
async def kept(papers: Any, state_url: str) -> Any:
    """A gateway whose pod has answered, and kept that 90 seconds ago."""
    papers.haystack.documents["1"] = common_pb2.Document(id="1", content="bees fly")
    fresh = await papers.http.post(SEARCH, json=BODY)
    assert "Age" not in fresh.headers
    request = papers.haystack.searches[0]
    result = (await papers.haystack.Search(request, NoCall())).result
    result.ClearField("took")
    answer = Answer(7, time.time() - 90, request.mode, 10, result.SerializeToString())
    with redis.Redis.from_url(state_url) as state:
        state.set(answers.key(request), answer.pack())
    return papers


class NoCall:
    """The context of no call."""

    def invocation_metadata(self) -> list[Any]:
        return []

    def time_remaining(self) -> float:
        return 0.0


async def test_when_no_pod_answers_who_accepts_it_is_given_the_last_answer(kept: Any) -> None:
    await kept.lose(kept.pods[0])
    assert (await kept.http.post(SEARCH, json=BODY)).status_code == 503
    reply = await kept.http.post(SEARCH, json={**BODY, "fallbacks": ["StaleAnswer"]})
    told = reply.json()
    assert (reply.status_code, told["fallback"], [hit["id"] for hit in told["hits"]]) == (200, "StaleAnswer", ["1"])
    assert 90 <= told["ageSeconds"] < 120
    assert reply.headers["Age"] == str(int(told["ageSeconds"]))
    other = {**BODY, "query": "wasps", "fallbacks": ["StaleAnswer"]}
    assert (await kept.http.post(SEARCH, json=other)).status_code == 503


async def test_a_pod_that_answers_is_asked(kept: Any) -> None:
    kept.haystack.documents["2"] = common_pb2.Document(id="2", content="bees dance")
    told = (await kept.http.post(SEARCH, json={**BODY, "fallbacks": ["StaleAnswer"]})).json()
    assert ([hit["id"] for hit in told["hits"]], "fallback" in told) == (["1", "2"], False)
    assert kept.haystack.searches[-1].fallbacks == [common_pb2.FALLBACK_STALE_ANSWER]


async def test_where_a_pod_says_nothing_it_is_given_when_its_share_of_the_callers_time_is_over(
    kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = kept.haystack.searches[0]
    query = api_pb2.IndexQuery(index=asked.index, query=asked.query, mode=asked.mode, filter=asked.filter)
    query.fallbacks.append(common_pb2.FALLBACK_STALE_ANSWER)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{kept.ports['grpc']}") as channel:
        api: Any = api_pb2_grpc.CortexAPIStub(channel)
        reply = await api.ProcessQuery(api_pb2.QueryRequest(index=query), timeout=100)
        assert not reply.search.fallback
        # gRPC sends a deadline in whole seconds, rounded up.
        assert 80 < kept.haystack.seconds_left[-1] <= 92, "nine tenths"
        # Here less, so that much is left.
        monkeypatch.setattr(queries, "_ASKING_SHARE", 0.02)
        kept.haystack.hold_search, began = asyncio.Event(), time.monotonic()
        reply = await api.ProcessQuery(api_pb2.QueryRequest(index=query), timeout=50)
        took = time.monotonic() - began
    kept.haystack.hold_search.set()
    assert reply.search.fallback == common_pb2.FALLBACK_STALE_ANSWER
    assert 0.9 <= took < 50


async def test_an_error_that_is_no_absence_is_told(kept: Any) -> None:
    kept.haystack.fail = InvalidInput("the filter is odd")
    reply = await kept.http.post(SEARCH, json={**BODY, "fallbacks": ["StaleAnswer"]})
    assert reply.status_code == 422
    kept.haystack.fail = Unavailable("the Lake does not answer", reason="LakeUnreachable")
    reply = await kept.http.post(SEARCH, json={**BODY, "fallbacks": ["StaleAnswer"]})
    assert reply.json()["fallback"] == "StaleAnswer"


async def test_an_overloaded_index_is_asked_once_and_stands_aside_for_the_last_answer(kept: Any) -> None:
    kept.haystack.fail, asked = Overloaded("it sheds load"), len(kept.haystack.searches)
    assert (await kept.http.post(SEARCH, json=BODY)).status_code == 429
    used = REGISTRY.get_sample_value("cortex_fallbacks_total", STALE) or 0
    told = (await kept.http.post(SEARCH, json={**BODY, "fallbacks": ["StaleAnswer"]})).json()
    assert (told["fallback"], [hit["id"] for hit in told["hits"]]) == ("StaleAnswer", ["1"])
    assert REGISTRY.get_sample_value("cortex_fallbacks_total", STALE) == used + 1
    assert len(kept.haystack.searches) == asked + 2
    reply = await kept.http.post(SEARCH, json={**BODY, "query": "wasps", "fallbacks": ["StaleAnswer"]})
    assert (reply.status_code, reply.json()["reason"]) == (429, "Overloaded")


def test_what_the_gateway_looks_for_is_what_a_pod_kept() -> None:
    request = search_pb2.SearchRequest(query="bees", index=common_pb2.ResourceRef(namespace="a", name="b"))
    declared = search_pb2.SearchRequest(fallbacks=[common_pb2.FALLBACK_STALE_ANSWER])
    declared.MergeFrom(request)
    assert answers.key(declared) == answers.key(request) != answers.key(search_pb2.SearchRequest())


@pytest.mark.parametrize("packed", [b"", b"\x02later", b"\x01"], ids=["nothing", "of a later release", "cut off"])
def test_what_cannot_be_read_is_no_answer(packed: bytes) -> None:
    assert Answer.unpack(packed) is None
