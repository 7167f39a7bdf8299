"""`cortex state` before a gateway that says what it is given."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cortex_cli.commands.state import watch
from cortex_cli.main import app
from gateway_double import GatewayDouble
from typer.testing import CliRunner, Result

ONE = "/v1/namespaces/default/workflows/answers"
RUN = "run/6f1c1e5e-0d1a-4a53-9a3b-0f6f3f6f8f10"
STATE = {
    "aggregate": RUN, "version": 2, "fields": {"status": "Succeeded", "output": {"n": 1}, "note": "x" * 500},
    "source": "Copy", "ageSeconds": 0.25,
}  # fmt: skip
FINE = {
    "position": 9, "copy": {"epoch": "e", "position": 9, "lagSeconds": 0.5}, "rows": [], "copies": [],
    "replicas": [{"aggregate": "replica/p1", "version": 4, "fields": {"pod": "p1", "runs": 2}}],
}  # fmt: skip
WRONG = {**FINE, "rows": [{"aggregate": RUN, "message": "its row is missing"}]}


@pytest.fixture
def gateway() -> Iterator[GatewayDouble]:
    with GatewayDouble() as double:
        yield double


def run(gateway: GatewayDouble, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["state", *arguments, "--gateway", gateway.url])


def a_change(position: int, aggregate: str = RUN, mark: str = "", **data: Any) -> tuple[str, str, dict[str, Any]]:
    """Of a pod of this release with `mark`, of the one before without."""
    marked = {"mark": mark} if mark else {}
    change = {"position": position, "aggregate": aggregate, "version": 1, "type": "RunChanged", "data": data}
    event_id = f"{position}-{mark}" if mark else str(position)
    return event_id, "change", {**change, **marked, "at": "2026-01-01T00:00:00Z", "by": "p1"}


def test_a_state_is_shown_with_where_it_was_read(gateway: GatewayDouble) -> None:
    gateway.answers[f"GET {ONE}/state/{RUN}"] = (200, STATE)
    done = run(gateway, "get", "workflow/answers", RUN, "--bound", "500ms")
    assert done.exit_code == 0
    assert done.output.splitlines()[0] == (
        f"{RUN} of workflow default/answers: version 2, from the copy, at most 0.25 s behind"
    )
    rows = [line.split(maxsplit=1) for line in done.output.splitlines()[2:]]
    assert [name for name, _ in rows] == ["FIELD", "note", "output", "status"]
    assert rows[2][1] == '{"n": 1}'
    assert max(map(len, done.output.splitlines())) < 130
    assert gateway.requests[0][1] == {"consistency": "Bounded", "boundMs": "500"}
    assert json.loads(run(gateway, "get", "cxw/answers", RUN, "-o", "json").output) == STATE
    assert yaml.safe_load(run(gateway, "get", "workflows/answers", RUN, "-o", "yaml").output) == STATE
    assert gateway.requests[1][1] == {"consistency": "Latest"}


def test_a_password_in_a_gateways_address_is_not_shown() -> None:
    with socket.socket() as deaf:  # it has a port, and does not listen
        deaf.bind(("127.0.0.1", 0))
        url = f"http://user:geheim@127.0.0.1:{deaf.getsockname()[1]}"
        done = CliRunner().invoke(app, ["state", "get", "workflow/answers", RUN, "--gateway", url])
    assert done.exit_code == 1
    assert "the gateway at http://***@127.0.0.1:" in done.output
    assert "geheim" not in done.output


def test_names_of_threads_may_have_any_characters(gateway: GatewayDouble) -> None:
    gateway.answers["GET /v1/namespaces/team/indexes/notes/state/thread/a/b ?é"] = (200, STATE)
    assert run(gateway, "get", "index/notes", "thread/a/b ?é", "-n", "team").exit_code == 0
    for dots in (".", "..", "../.."):
        gateway.answers[f"GET {ONE}/state/thread/{dots}"] = (200, STATE)
        assert run(gateway, "get", "workflow/answers", f"thread/{dots}").exit_code == 0
    gateway.answers[f"GET {ONE}/history/thread/.."] = (200, {"events": [a_change(1)[2]], "more": False})
    assert run(gateway, "history", "workflow/answers", "thread/..").exit_code == 0
    for strange in ("..", "../..", "."):
        refused = run(gateway, "get", "workflow/answers", strange)
        assert (refused.exit_code, f"nothing at GET {ONE}/state/{strange}" in refused.output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("get", "answers", RUN), "write workflow/NAME or index/NAME"),
        (("get", "pod/answers", RUN), "write workflow/NAME or index/NAME"),
        (("get", "workflow/answers", RUN, "--bound", "5"), "500ms, 2s or 1m"),
        (("get", "workflow/answers", RUN, "--bound", "61m"), "1ms to 60m"),
        (("get", "workflow/answers", RUN, "--bound", "1s", "--consistency", "Latest"), "is of Bounded alone"),
        (("get", "workflow/answers", RUN, "--consistency", "Eventual"), "use Durable, Latest, Bounded"),
        (("get", "workflow/answers", RUN, "-o", "xml"), "table, json or yaml"),
        (("get", "workflow/answers", RUN), "it is not there; look again"),
    ],
)
def test_mistakes_are_named_with_what_to_do(gateway: GatewayDouble, arguments: tuple[str, ...], says: str) -> None:
    told = {"detail": "it is not there", "remedy": "look again", "reason": "AggregateNotFound"}
    gateway.answers[f"GET {ONE}/state/{RUN}"] = (404, told)
    done = run(gateway, *arguments)
    assert (done.exit_code, says in done.output) == (1, True), done.output


def test_without_a_cluster_both_ways_to_one_are_named(tmp_path: Path) -> None:
    arguments = ["state", "doctor", "--data-dir", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "cortex up" in done.output
    assert "--gateway" in done.output
    gone = CliRunner().invoke(app, [*arguments, "--gateway", "http://127.0.0.1:1"])
    assert "port-forward" in gone.output
    assert "no URL" in CliRunner().invoke(app, [*arguments, "--gateway", "localhost:8001"]).output


def test_a_history_is_read_page_by_page(gateway: GatewayDouble) -> None:
    def page(query: dict[str, str], _: Any) -> tuple[int, Any]:
        after, limit = int(query["after"]), int(query["limit"])
        versions = range(after + 1, min(after + min(limit, 2), 5) + 1)
        events = [{**a_change(0 if n == 5 else n, steps=n)[2], "version": n} for n in versions]
        return 200, {"events": events, "more": versions.stop <= 5}

    gateway.answers[f"GET {ONE}/history/{RUN}"] = page
    done = run(gateway, "history", "workflow/answers", RUN)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["VERSION", "1", "2", "3", "4", "5"]
    assert "not yet" in done.stdout.splitlines()[-1]
    assert done.stdout.splitlines()[3].endswith("p1   steps=3")
    assert done.stderr == ""
    some = run(gateway, "history", "workflow/answers", RUN, "--after", "1", "--limit", "3")
    assert len(some.stdout.splitlines()) == 4
    assert some.stderr == "there are more: --after 4\n"
    told = json.loads(run(gateway, "history", "workflow/answers", RUN, "-o", "json").stdout)
    assert ([event["version"] for event in told["events"]], told["more"]) == ([1, 2, 3, 4, 5], False)


def test_a_watch_goes_on_after_the_last_position_until_it_makes_no_sense(
    gateway: GatewayDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_PAUSES", (0.0,))
    unknown = {"detail": "the feed ends at 3", "remedy": "begin anew", "reason": "PositionUnknown", "retryable": False}
    streams: list[tuple[int, Any]] = [
        (200, [("1-89abcdef", "position", {}), a_change(2, steps=1), a_change(3, "thread/t", "0123abcd")]),
        (503, {"detail": "away", "reason": "NotReady", "retryable": True}),
        (200, [("3", "position", {"position": 3}), a_change(4, steps=2), ("", "interrupted", {"retryable": True})]),
        (409, unknown),
    ]
    gateway.answers[f"GET {ONE}/changes"] = lambda *_: streams.pop(0)
    done = run(gateway, "watch", "workflow/answers", "run")
    assert done.exit_code == 1
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == ["2", "4"]
    assert done.stdout.splitlines()[0].endswith(f"{RUN}  RunChanged  steps=1")
    assert [headers.get("last-event-id") for _, _, headers in gateway.requests] == [
        None,
        "3-0123abcd",
        "3-0123abcd",
        "4",
    ]
    said = done.stderr.splitlines()
    assert said[0] == "following workflow default/answers after position 1-89abcdef; Ctrl-C ends it"
    assert "going on after position 3-0123abcd" in said[1]
    assert said[-1] == "error: the feed ends at 3; begin anew"


def test_a_watch_that_cannot_begin_says_why(gateway: GatewayDouble) -> None:
    gateway.answers[f"GET {ONE}/changes"] = (503, {"detail": "away", "reason": "NotReady", "retryable": True})
    done = run(gateway, "watch", "workflow/answers", "--after", "7", "-o", "json")
    assert (done.exit_code, done.output) == (1, "error: away\n")
    assert gateway.requests[0][2]["last-event-id"] == "7"


def test_a_watch_prints_marks_and_begins_after_one(gateway: GatewayDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PAUSES", (0.0,))
    gone = {"detail": "the history is another one", "reason": "PositionUnknown", "retryable": False}
    streams: list[tuple[int, Any]] = [(200, [a_change(8, mark="0123abcd")]), (409, gone)]
    gateway.answers[f"GET {ONE}/changes"] = lambda *_: streams.pop(0)
    done = run(gateway, "watch", "workflow/answers", "--after", "7-89abcdef", "-o", "json")
    assert [headers["last-event-id"] for _, _, headers in gateway.requests] == ["7-89abcdef", "8-0123abcd"]
    assert json.loads(done.stdout)["mark"] == "0123abcd"
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (1, "error: the history is another one")


@pytest.mark.parametrize("after", ["x", "-1", "7-", "7-0", "7-0123ABCD", "7-0123abcd0"])
def test_what_is_no_position_is_named(gateway: GatewayDouble, after: str) -> None:
    done = run(gateway, "watch", "workflow/answers", f"--after={after}")
    assert (done.exit_code, "12-0a1b2c3d" in done.output, gateway.requests) == (1, True, [])


def test_a_watch_checks_the_name_as_a_read_does(gateway: GatewayDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"detail": "there is no aggregate 'foo'", "reason": "InvalidInput"}
    gateway.answers[f"GET {ONE}/history/foo"] = (422, wrong)
    done = run(gateway, "watch", "workflow/answers", "foo")
    assert (done.exit_code, done.output) == (1, "error: there is no aggregate 'foo'\n")
    # What is not there yet is followed all the same, and by the name that changes have.
    upper = f"run/{RUN.partition('/')[2].upper()}"
    gateway.answers[f"GET {ONE}/history/{upper}"] = (404, {"detail": "none", "reason": "AggregateNotFound"})
    monkeypatch.setattr(watch, "_PAUSES", (0.0,))
    streams: list[tuple[int, Any]] = [(200, [a_change(8), a_change(9, "run/other")]), (409, {"detail": "over"})]
    gateway.answers[f"GET {ONE}/changes"] = lambda *_: streams.pop(0)
    assert [line.split()[0] for line in run(gateway, "watch", "workflow/answers", upper).stdout.splitlines()] == ["8"]


def both(gateway: GatewayDouble, index: tuple[int, Any], workflow: tuple[int, Any]) -> None:
    item = {"metadata": {"namespace": "default", "name": "notes"}}
    gateway.answers["GET /v1/indexes"] = (200, {"items": [item]})
    gateway.answers["GET /v1/workflows"] = (200, {"items": [{"metadata": {"name": "answers"}}]})
    gateway.answers["GET /v1/namespaces/default/indexes/notes/state"] = index
    gateway.answers[f"GET {ONE}/state"] = workflow


def test_a_doctor_is_short_when_all_is_fine(gateway: GatewayDouble) -> None:
    stopped = {"detail": "no pod", "reason": "Suspended"}
    both(gateway, (503, stopped), (200, FINE))
    done = run(gateway, "doctor")
    assert done.output.splitlines() == [
        "index default/notes: not asked: it runs no pod (Suspended)",
        "workflow default/answers: fine",
        "  feed at position 9; the copy has all of it, complete as of 0.5 s ago",
        "  replica p1: runs 2",
    ]
    assert done.exit_code == 0
    assert run(gateway, "doctor", "index/notes").exit_code == 1


def test_a_doctor_tells_what_differs_apart_from_what_it_could_not_ask(gateway: GatewayDouble) -> None:
    away = {"detail": "no pod answers", "remedy": "look at its conditions", "reason": "NotReady"}
    both(gateway, (503, away), (200, WRONG))
    done = run(gateway, "doctor", "all")
    assert done.exit_code == 2
    assert "  no pod answers; look at its conditions" in done.output
    assert f"  row of {RUN}: its row is missing" in done.output
    assert "cortex state rebuild workflow/answers -n default" in done.output
    told = json.loads(run(gateway, "doctor", "-o", "json").output)
    assert [(one["name"], one["verdict"]) for one in told] == [("notes", "could not be asked"), ("answers", "differs")]
    both(gateway, (503, away), (200, FINE))
    assert run(gateway, "doctor").exit_code == 1
    both(
        gateway, (200, FINE), (200, {"position": 9, "problem": "it is away", "rows": [], "copies": [], "replicas": []})
    )
    blind = run(gateway, "doctor")
    assert "rows are fine, the copy was not looked at\n" in blind.output
    assert blind.exit_code == 1
    late = {**FINE, "copy": {"epoch": "e", "position": 4, "lagSeconds": 61.0}, "replicas": []}
    both(gateway, (200, late), (200, FINE))
    assert (
        "the copy is 5 events behind, complete as of 61 s ago; no pod brings it up to date"
        in run(gateway, "doctor", "index/notes").output
    )


def test_wrong_options_of_the_doctor_are_no_differences(gateway: GatewayDouble) -> None:
    assert run(gateway, "doctor", "--what").exit_code == 1


def test_a_rebuild_says_what_it_does_and_what_is_left(gateway: GatewayDouble) -> None:
    gateway.answers[f"GET {ONE}/state"] = (200, WRONG)
    gateway.answers[f"POST {ONE}/state/rebuild"] = (200, FINE)
    done = run(gateway, "rebuild", "workflow/answers")
    said = done.output.splitlines()
    assert said[0] == f"row of {RUN}: its row is missing"
    assert said[-3] == "workflow default/answers: fine"
    assert done.exit_code == 0
    assert [asked for asked, _, _ in gateway.requests] == [f"GET {ONE}/state", f"POST {ONE}/state/rebuild"]
    gateway.answers[f"POST {ONE}/state/rebuild"] = (200, WRONG)
    assert run(gateway, "rebuild", "workflow/answers").exit_code == 2
