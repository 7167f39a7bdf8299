"""The table of errors: gRPC and back exactly, problem+json, nothing too large for trailers."""

from __future__ import annotations

import json
from typing import Any

import grpc
import orjson
import pytest
from cortex_workloads.runtime import errors
from cortex_workloads.runtime.errors import CortexError
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

KINDS = [kind for kind in errors.TABLE if kind is not CortexError]
SHORT = st.text(max_size=60)


def through_grpc(error: CortexError) -> CortexError:
    status = errors.to_status(error)
    trailers = grpc.aio.Metadata((errors.DETAILS_KEY, status.SerializeToString()))
    code = errors.row(type(error)).code
    return errors.from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, status.message))


def error_info(error: CortexError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert errors.to_status(error).details[0].Unpack(info)
    return info


@given(
    kind=st.sampled_from(KINDS),
    message=SHORT,
    remedy=SHORT,
    reason=st.none() | st.from_regex(r"[A-Z][A-Za-z]{2,20}", fullmatch=True),
    violations=st.lists(st.tuples(SHORT, SHORT), max_size=4),
    milliseconds=st.none() | st.integers(0, 10**6),
)
def test_an_error_survives_grpc(
    kind: Any, message: str, remedy: str, reason: str | None, violations: Any, milliseconds: int | None
) -> None:
    seconds = None if milliseconds is None else milliseconds / 1000
    sent = kind(message, remedy=remedy, reason=reason, violations=violations, retry_after=seconds)
    got = through_grpc(sent)
    assert type(got) is kind
    assert (got.message, got.remedy, got.reason, got.violations) == (message, remedy, sent.reason, tuple(violations))
    assert errors.retry_after(got) == errors.retry_after(sent)
    problem = errors.to_problem(got, "t")
    assert problem == errors.to_problem(sent, "t") == json.loads(orjson.dumps(problem))
    info = error_info(sent)
    assert (info.reason, info.metadata["family"]) == (problem["reason"], problem["family"])
    assert info.metadata["retryable"] == json.dumps(problem["retryable"])


def test_every_type_has_a_row_of_its_own_and_a_stable_reason() -> None:
    def below(kind: type[CortexError]) -> set[type[CortexError]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    ours = {kind for kind in below(CortexError) if kind.__module__ == errors.__name__}
    assert ours == set(errors.TABLE)
    assert all(errors.TABLE[kind].reason == kind.__name__ for kind in KINDS)
    assert [row for row in errors.TABLE.values() if not 400 <= row.http < 600] == []


@pytest.mark.parametrize("text", ["x" * 9000, "ü" * 9000, "😀" * 9000])
def test_trailers_stay_small(text: str) -> None:
    error = errors.InvalidInput(text, remedy=text, violations=[(f"/field/{n}", text[:200]) for n in range(500)])
    status = errors.to_status(error)
    assert len(status.SerializeToString()) * 4 / 3 + len(status.message.encode()) * 3 < 8192
    got = errors.from_status(status)
    assert got.message.endswith("...")
    assert got.violations[0] == ("/field/0", text[:200])


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect", errors.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.DeadlineExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Sent message larger than max", errors.TooLarge),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "quota", errors.Overloaded),
        (grpc.StatusCode.INVALID_ARGUMENT, "no", errors.InvalidInput),
        (grpc.StatusCode.UNIMPLEMENTED, "no such method", errors.Unimplemented),
        (grpc.StatusCode.DATA_LOSS, "lost", errors.Internal),
        (grpc.StatusCode.CANCELLED, "", errors.Unavailable),
    ],
)
def test_what_a_stranger_says_becomes_the_nearest_type(code: Any, details: str, kind: type[CortexError]) -> None:
    got = errors.from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details))
    assert type(got) is kind
    assert got.message == (details or code.name)


def test_details_that_cannot_be_read_are_ignored() -> None:
    trailers = grpc.aio.Metadata((errors.DETAILS_KEY, b"\xff\xff"))
    got = errors.from_rpc_error(
        grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), trailers, "not there")
    )
    assert (type(got), got.message) == (errors.NotFound, "not there")


def test_the_status_of_a_stranger_with_an_unknown_code_is_internal() -> None:
    assert type(errors.from_status(status_pb2.Status(code=99, message="?"))) is errors.Internal


def test_a_problem_has_the_documented_members() -> None:
    error = errors.NotFound("there is no index x", remedy="make it", violations=[("/a", "b")], reason="IndexNotFound")
    assert errors.to_problem(error, "abc") == {
        "type": "https://cortex.datapunk.io/errors/IndexNotFound",
        "title": "Not found",
        "status": 404,
        "detail": "there is no index x",
        "reason": "IndexNotFound",
        "family": "InvalidInput",
        "retryable": False,
        "remedy": "make it",
        "errors": [{"field": "/a", "message": "b"}],
        "traceId": "abc",
    }


def test_a_type_of_elsewhere_is_told_as_its_base() -> None:
    class Special(errors.Unavailable):
        pass

    assert type(through_grpc(Special("x"))) is errors.Unavailable


def test_a_family_is_to_be_tried_again_unless_the_request_or_we_have_to_change() -> None:
    final = {errors.Family.INVALID_INPUT, errors.Family.STATE_SYNC_FAILED, errors.Family.INTERNAL}
    again = {row.family for row in errors.TABLE.values() if row.retry_after is not None}
    assert again == set(errors.Family) - final
    assert errors.to_problem(errors.Unavailable("x"), "t")["retryable"] is True
    assert errors.to_problem(errors.FailedPrecondition("x", retry_after=2), "t")["retryable"] is True
