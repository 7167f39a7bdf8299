"""In which of the namespaces that are to be watched the operator works, and what a change of its rights does to it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cortex_kube.client import ApiError
from cortex_operator import watched
from cortex_operator.preflight import MissingRights
from cortex_operator.watched import Watched

LEASE = ("own", "operator")


class Rights:
    """An API server that grants everything in `granted`, but for what `lacking` names (verb, resource, namespace)."""

    server = "https://api.invalid"

    def __init__(self, *granted: str) -> None:
        self.granted = set(granted)
        self.lacking: set[tuple[str, str, str]] = set()
        self.answers = True

    async def request(self, method: str, path: str, *, body: Any = None) -> Any:
        if not self.answers:
            raise ApiError("away")
        if method == "GET":
            return {"resources": [{"kind": "CortexIndex"}, {"kind": "CortexWorkflow"}]}
        asked = body["spec"]["resourceAttributes"]
        about = (asked["verb"], asked["resource"], asked["namespace"])
        return {"status": {"allowed": asked["namespace"] in self.granted and about not in self.lacking}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "_AGAIN", 0.001)


async def begun(api: Any, *wanted: str) -> Watched:
    found = Watched(api, wanted, False, 0.001)
    await found.begin(LEASE, lambda _: None)
    return found


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


async def test_where_rights_lack_nothing_is_served_and_elsewhere_all_is(caplog: pytest.LogCaptureFixture) -> None:
    api = Rights("own", "team-a", "team-b", "team-c")
    api.granted.remove("team-b")
    api.lacking.add(("create", "jobs", "team-c"))
    found = await begun(api, "team-a", "team-b", "team-c")
    assert found.served == ("team-a",)
    about_b, about_c = warnings(caplog)
    assert "nothing is served in namespace team-b" in about_b
    assert "get/list/watch/patch cortexindexes.cortex.datapunk.io in namespace team-b" in about_b
    assert "install the chart's roles there" in about_b
    assert "lack: create jobs.batch in namespace team-c; install" in about_c


@pytest.mark.parametrize(
    ("granted", "wanted"), [(("own",), ("team-a", "team-b")), (("own",), ()), (("team-a",), ("team-a",))]
)
async def test_without_any_namespace_or_its_own_it_cannot_work(
    granted: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    with pytest.raises(MissingRights, match="rights"):
        await begun(Rights(*granted), *wanted)


async def test_with_rights_everywhere_it_works_everywhere() -> None:
    assert (await begun(Rights("own", ""))).served == ()


async def test_rights_that_come_end_the_operator_and_an_outage_does_not() -> None:
    api = Rights("own", "team-a")
    found, stop = await begun(api, "team-a", "team-b"), asyncio.Event()
    following = asyncio.create_task(found.follow(stop))
    await asyncio.sleep(0.02)
    api.answers = False
    await asyncio.sleep(0.02)
    assert not stop.is_set()
    api.answers = True
    api.granted.add("team-b")
    async with asyncio.timeout(30):
        await following
    assert stop.is_set()


async def test_where_all_are_served_nobody_asks_again() -> None:
    stop = asyncio.Event()
    async with asyncio.timeout(30):
        await (await begun(Rights("own", "team-a"), "team-a")).follow(stop)
    assert not stop.is_set()


@pytest.mark.parametrize(("left", "explained"), [(("team-a",), True), (("team-a", "team-b"), False), ((), False)])
async def test_a_lost_watch_is_explained_where_rights_went_and_others_are_left(
    left: tuple[str, ...], explained: bool
) -> None:
    api = Rights("own", "team-a", "team-b")
    found = await begun(api, "team-a", "team-b")
    api.granted = {"own", *left}
    assert await found.explains() is explained


async def test_an_api_server_that_does_not_answer_explains_nothing() -> None:
    api = Rights("own", "team-a", "team-b")
    found = await begun(api, "team-a", "team-b")
    api.answers = False
    assert not await found.explains()
