"""The catalogue file: read, followed, and trusted only when it can be read."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from cortex_workloads.runtime.catalogue import INDEX, WORKFLOW, Endpoint, FileCatalogue
from cortex_workloads.runtime.errors import NotFound


def an_index(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "cortex.datapunk.io/v1alpha1", "kind": INDEX, "metadata": {"name": name}, **more}


def a_slice(service: str, port: int, *, ready: bool = True) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "grpc", "port": port}],
        "endpoints": [
            {"addresses": ["127.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": "p"}}
        ],
    }


def write(path: Path, items: Any = (), slices: Any = ()) -> None:
    replace(path, json.dumps({"items": list(items), "endpointSlices": list(slices)}))


def replace(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    os.replace(path.with_suffix(".new"), path)


async def test_a_missing_file_is_an_empty_catalogue_that_fills(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.json"
    async with FileCatalogue(path) as catalogue:
        assert catalogue.list(INDEX) == []
        version = catalogue.version
        write(path, [an_index("b"), an_index("a")], [a_slice("a-search-headless", 1), a_slice("a-search-headless", 2)])
        await asyncio.wait_for(catalogue.changed(version), 30)
        assert [resource.name for resource in catalogue.list(INDEX)] == ["a", "b"]
        assert catalogue.list(INDEX, "elsewhere") == []
        assert catalogue.endpoints("a-search-headless", "default") == (
            Endpoint("127.0.0.1", {"grpc": 1}, "p"),
            Endpoint("127.0.0.1", {"grpc": 2}, "p"),
        )
        assert catalogue.endpoints("a-search-headless", "elsewhere") == ()


async def test_pods_that_are_not_ready_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "c", [], [a_slice("s", 1, ready=False), a_slice("s", 2)])
    async with FileCatalogue(tmp_path / "c") as catalogue:
        assert [endpoint.ports["grpc"] for endpoint in catalogue.endpoints("s", "default")] == [2]


@pytest.mark.parametrize("garbage", ["{", "[]", '"x"', '{"endpointSlices": [{}]}', '{"items": 5}', ""])
async def test_garbage_keeps_what_was_there_and_is_logged_once(
    tmp_path: Path, garbage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "catalogue.json"
    write(path, [an_index("papers")])
    async with FileCatalogue(path) as catalogue:
        replace(path, garbage)
        with caplog.at_level(logging.ERROR):
            catalogue.refresh()
            catalogue.refresh()
        assert catalogue.get(INDEX, "default", "papers").name == "papers"
        # What other tests left in this process may be told meanwhile.
        assert [record.name for record in caplog.records if record.name.startswith("cortex")] == ["cortex.catalogue"]
        write(path, [an_index("other")])
        catalogue.refresh()
        assert [resource.name for resource in catalogue.list(INDEX)] == ["other"]


async def test_one_resource_that_is_not_valid_does_not_hide_the_others(tmp_path: Path) -> None:
    write(tmp_path / "c", [an_index("ok"), an_index("wrong", spec={"no": 1}), {"kind": "Pod"}, {"metadata": {}}])
    async with FileCatalogue(tmp_path / "c") as catalogue:
        assert [resource.name for resource in catalogue.list(INDEX)] == ["ok"]


async def test_not_found_suggests_near_names(tmp_path: Path) -> None:
    write(tmp_path / "c", [an_index("papers"), an_index("zebra")])
    async with FileCatalogue(tmp_path / "c") as catalogue:
        with pytest.raises(NotFound, match="did you mean default/papers") as raised:
            catalogue.get(INDEX, "default", "paper")
        assert raised.value.reason == "IndexNotFound"
        with pytest.raises(NotFound, match="there are no workflows yet"):
            catalogue.get(WORKFLOW, "default", "paper")


async def test_the_ready_condition_is_read(tmp_path: Path) -> None:
    condition = {"type": "Ready", "status": "False", "reason": "NoPods", "message": "m", "lastTransitionTime": "now"}
    write(tmp_path / "c", [an_index("a", status={"conditions": [condition]}), an_index("b")])
    async with FileCatalogue(tmp_path / "c") as catalogue:
        ready = catalogue.get(INDEX, "default", "a").ready
        assert ready is not None
        assert ready.reason == "NoPods"
        assert catalogue.get(INDEX, "default", "b").ready is None
