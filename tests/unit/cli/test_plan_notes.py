"""Notes of a plan: one for all that may not be read, one for each reason not to ask the API server."""

from __future__ import annotations

import pytest
from cortex_cli.planning.notes import beside, unasked, unread
from cortex_operator.cluster import EVERYWHERE, Forbidden, MemoryCluster, Object, ObjectKey, Unauthorized
from cortex_operator.preview.look import Look


class Closed(MemoryCluster):
    """A cluster that lets nobody read anything."""

    error: Exception = Forbidden("you may not (RBAC)")

    async def get(self, key: ObjectKey, *, unwatched: bool = False) -> Object:
        raise self.error

    async def list(
        self, api_version: str, kind: str, *, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> list[Object]:
        raise self.error


async def test_all_that_may_not_be_read_is_one_note() -> None:
    look = Look(Closed())
    for kind, name in (("Secret", "a"), ("Secret", "b"), ("ConfigMap", "c")):
        assert await look.find(ObjectKey("v1", kind, "team-a", name)) is None
    for kind in ("Pod", "Job"):
        assert await look.list("v1", kind, "team-a", {}) == []
    for place in (None, EVERYWHERE):
        with pytest.raises(Forbidden):
            await look.list("v1", "Node", place, {})

    assert list(unread(look.unread)) == [
        "you may not read (RBAC get, list): ConfigMap, Job, Pod, Secret in namespace team-a; Node in all namespaces; "
        "ConfigMaps and Secrets that are named are taken to be there"
    ]
    assert list(unread({"team-a": ["Pod"]})) == ["you may not read (RBAC get, list): Pod in namespace team-a"]
    assert list(unread({})) == []


async def test_who_is_not_known_gets_no_plan() -> None:
    closed = Closed()
    closed.error = Unauthorized("the API server does not know you")
    with pytest.raises(Unauthorized):
        await Look(closed).find(ObjectKey("v1", "Secret", "team-a", "a"))
    with pytest.raises(Unauthorized):
        await Look(closed).list("v1", "Pod", "team-a", {})


def test_resources_of_one_reason_share_a_note() -> None:
    word = "defaults and admission (CEL, policies) are not the API server's own word: "
    found = unasked({"you may not patch (RBAC)": ["index a", "index b"], "no namespace": ["index c"]})
    assert list(found) == [f"{word}you may not patch (RBAC): index a, index b", f"{word}no namespace: index c"]
    assert list(beside(())) == []
