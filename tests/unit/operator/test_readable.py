"""Addresses that no workload could read: what is told as wrong, the workloads themselves refuse, too."""

from __future__ import annotations

import pytest
from cortex_operator.manifests.readable import may_be_dsn, may_be_state_url
from cortex_workloads.runtime.errors import InvalidInput
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.progress import ProgressStream
from hypothesis import example, given, settings
from hypothesis import strategies as st

PIECES = [
    *("postgresql://", "postgres://", "host=", "port=", "host", "port", "x=y", "h", "user", "a", "0", "5432", "1,2"),
    *("99999", "+5", "1_0", "\u0663", "\u00e9", "%", "%41", "%4", "%00", "//"),
    *"='\\ @:/?,[]&#\n\t\r\v",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def is_read(dsn: str) -> bool:
    try:
        Lake(dsn)
    except InvalidInput:
        return False
    return True


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:p%2Fq@a:1,[2001:db8::1]:2,c/db?sslmode=require",
        "postgres://u@b\u00fccher.example/d",
        "postgresql://h/d\n",
        "postgresql:///d?host=/run/postgresql",
        "host = a port=6 user=u password='x\\' host=y'",
        "service=lake",
    ],
)
async def test_what_libpq_reads_may_be_one(dsn: str) -> None:
    assert is_read(dsn)
    assert may_be_dsn(dsn)


@pytest.mark.parametrize(
    "dsn",
    [
        " postgresql://h/d",
        "postgresql:/h/d",
        "PostgreSQL://h/d",
        "mysql://h/d?a=b",
        "h:5432",
        "host=h,bad host",
        "postgresql://u@h1,bad host/d",
        "postgresql://u@h:54x2/d",
        "postgresql://u:pass/word@h/d",
        "postgresql://u:100%@h/d",
        "Host=h",
    ],
)
async def test_usual_mistakes_are_found(dsn: str) -> None:
    assert not is_read(dsn)
    assert not may_be_dsn(dsn)


@settings(max_examples=500, deadline=None)
@given(st.one_of(TEXTS, TEXTS.map("postgresql://{}".format), TEXTS.map("host=h {}".format)))
@example("postgresql://0\r0")
@example("postgresql://h:x/d?port=1")
async def test_nothing_is_told_as_wrong_that_a_pod_could_read(dsn: str) -> None:
    assert may_be_dsn(dsn) or not is_read(dsn)


def test_a_long_value_takes_no_longer_than_it_has_characters() -> None:
    for text in ("a= " * 100_000 + "!", "a=" * 100_000 + " !", "a='" + "x" * 100_000, "postgresql://" + "a " * 100_000):
        assert not may_be_dsn(text)


@pytest.mark.parametrize("url", ["redis://h", "rediss://u:p@h:6380/0", "http://h", "h:6379", "unix:///run/valkey"])
async def test_of_the_shared_state_the_scheme_decides(url: str) -> None:
    try:
        async with ProgressStream(url):
            pass
    except InvalidInput:
        assert not may_be_state_url(url)
    else:
        assert may_be_state_url(url)
