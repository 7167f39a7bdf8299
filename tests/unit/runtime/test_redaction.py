"""No password of an address reaches a caller: in either wire format, whatever quotes it."""

from __future__ import annotations

import json

import pytest
from cortex_workloads.graph.failures import of_node
from cortex_workloads.runtime import errors
from cortex_workloads.runtime.redaction import redacted
from hypothesis import example, given
from hypothesis import strategies as st

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            f"no answer from postgresql://cortex:{SECRET}@lake:5432/x today",
            "no answer from postgresql://***@lake:5432/x today",
        ),
        (f"redis://:{SECRET}@a:6379/0,redis://:{SECRET}@b", "redis://***@b"),
        (f"redis://:{SECRET}@{SECRET}/{SECRET}@state:6379/0", "redis://***@state:6379/0"),
        (f"host=lake Password = '{SECRET} it''s' user=x", "host=lake Password=*** user=x"),
        (f"host=lake sslpassword={SECRET} user=x", "host=lake sslpassword=*** user=x"),
        (f"postgresql://lake/x?passwd={SECRET}", "postgresql://lake/x?passwd=***"),
        ("ask a@b.org, see https://docs.example/a?b=c", "ask a@b.org, see https://docs.example/a?b=c"),
    ],
)
def test_passwords_are_left_out_and_the_rest_stays(text: str, told: str) -> None:
    assert redacted(text) == told


@given(st.lists(st.sampled_from([*"a:/@='\\ \n", "://", "password="])).map("".join))
@example("password= 'a'password=b")
def test_what_is_redacted_stays_as_it_is(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize("kind", [kind for kind in errors.TABLE if kind is not errors.CortexError])
def test_no_wire_format_of_an_error_has_the_password(kind: type[errors.CortexError]) -> None:
    said = f"postgresql://cortex:{SECRET}@lake/x"
    error = kind(said, remedy=said, violations=[("/dsn", said)])
    assert SECRET not in str(errors.to_status(error)) + json.dumps(errors.to_problem(error, "t")) + str(error)
    assert SECRET not in repr(error)


def test_a_node_that_fails_quotes_no_password() -> None:
    met = ValueError(f"cannot reach redis://:{SECRET}@state:6379/0")
    told = of_node("fetch", met)
    assert told.message == str(told) == "node 'fetch' failed: ValueError: cannot reach redis://***@state:6379/0"
