"""Models of one's own, by real pods on a real Lake: another name, what it is built from, what is refused; recovery.

The files are the packaged model's, with a `cortex.json` of their own: another use of the same network is another model.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from cortex_workloads.runtime.embedding.model import NETWORK, TOKENIZER
from datapunk.cortex import common_pb2

OWN = {"storage": {"models": {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "models"}}}}
TEXTS = {"whales": "Whales sing in the sea.", "ships": "Ships carry goods."}


def spec(model: str = "own", **local: str) -> dict[str, Any]:
    return {**OWN, "embedding": {"local": {"model": model, **local}}}


def a_model(folder: Path, name: str = "own", **use: Any) -> Path:
    made = folder / name
    made.mkdir(parents=True)
    shutil.copy(NETWORK.find(), made / "model.onnx")
    shutil.copy(TOKENIZER.find(), made / "tokenizer.json")
    (made / "cortex.json").write_text(json.dumps({"maxTokens": 128, **use}))
    return made


@pytest.fixture
def models(tmp_path: Path) -> Path:
    made = tmp_path / "models"
    made.mkdir()
    return made


@pytest.fixture
async def own(pods: Any, lake_dsn: str, tmp_path: Path, models: Path) -> AsyncIterator[Any]:
    pod = pods(lake_dsn, tmp_path / "own.log", CORTEX_MODELS_DIRECTORY=str(models))
    await pod.ready()
    yield pod
    await pod.close()


async def ensured(pod: Any, **wanted: Any) -> Any:
    """As the operator does: again while the model is being loaded."""
    async with asyncio.timeout(120):
        while True:
            try:
                return await pod.ensure(**wanted)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.1)


async def refused(pod: Any, **wanted: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await ensured(pod, **wanted)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return str(error.value.details())


async def missing(pod: Any, reason: str) -> str:
    """What a pod says that lacks its model."""
    async with asyncio.timeout(90):
        while True:
            with suppress(grpc.aio.AioRpcError):
                for found in (await pod.describe()).dependencies:
                    if found.name == "Model" and found.reason == reason:
                        return str(found.message)
            await asyncio.sleep(0.1)


async def test_from_the_packaged_model_to_ones_own_and_back(own: Any, models: Path) -> None:
    await ensured(own)
    await own.update(**TEXTS)
    await own.embedded(2)
    a_model(models, pooling="CLS", queryPrefix="query: ")
    made = await ensured(own, **spec())
    async with asyncio.timeout(120):
        while (await own.describe()).current_revision != made.id:
            assert (await own.search("which animals make music?", top_k=1)).hits[0].id == "whales"
    result = await own.search("which animals make music?", top_k=2)
    assert (result.revision, len(result.hits), result.hits[0].id) == (made.id, 2, "whales")
    back = await ensured(own)
    async with asyncio.timeout(120):
        while (await own.describe()).current_revision != back.id:
            await own.search("music", top_k=1)
    assert (await own.search("music", top_k=1)).revision == back.id


async def test_what_is_wrong_with_the_files_is_said_and_put_right_without_a_restart(own: Any, models: Path) -> None:
    assert "has no model.onnx and no tokenizer.json" in await refused(own, **spec())
    made = a_model(models, "other")
    digest = hashlib.sha256((made / "model.onnx").read_bytes()).hexdigest()
    assert f"has SHA-256 {digest}, not {'0' * 64}" in await refused(own, **spec("other", sha256="0" * 64))
    assert (await ensured(own, **spec("other", sha256=digest))).id
    for name, content, words in (
        ("model.onnx", b"nonsense", "cannot be used: .*INVALID_PROTOBUF"),
        ("tokenizer.json", b"{}", "cannot be used"),
        ("cortex.json", b'{"maxTokens": 4096}', "fails on a text of 4096 tokens"),
        ("cortex.json", b'{"pooling": "Max"}', "cortex.json: pooling"),
    ):
        wrong = a_model(models, f"wrong{hashlib.sha256(content).hexdigest()[:8]}")
        (wrong / name).write_bytes(content)
        said = await refused(own, **spec(wrong.name))
        assert re.search(words, said), said
        assert "docs/indexes.md" in said


async def test_another_file_under_the_same_name_is_refused_until_the_former_is_back(
    own: Any, pods: Any, models: Path, lake_dsn: str, tmp_path: Path, release: Callable[..., Any]
) -> None:
    made = a_model(models)
    revision = await ensured(own, **spec())
    await own.update(**TEXTS)
    await own.embedded(2)
    with psycopg.connect(lake_dsn) as server:
        (files,) = server.execute("SELECT model_files FROM revisions").fetchone() or ({},)
    assert files == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in made.iterdir()}

    former = (made / "cortex.json").read_text()
    (made / "cortex.json").write_text('{"maxTokens": 64}')
    environment = {"CORTEX_LAKE_DSN": lake_dsn, "CORTEX_RESOURCE_NAME": "papers", "CORTEX_REVISION": revision.id}
    job = release("cortex_workloads.search.ingest", **environment, CORTEX_MODELS_DIRECTORY=str(models))
    late = pods(lake_dsn, tmp_path / "late.log", CORTEX_MODELS_DIRECTORY=str(models))
    try:
        said = await missing(late, "ModelChanged")
        assert f"revision {revision.id} was begun with: cortex.json changed" in said
        assert "spec.embedding.local.model, which makes a new revision" in said
        assert not await late._serving()
        assert (await late.describe()).current_revision == revision.id
        assert (await own.search("music", top_k=1)).hits[0].id == "whales"
        by_text = await late.search("sea", fallbacks=[common_pb2.FALLBACK_TEXT_ONLY])
        assert ([hit.id for hit in by_text.hits], by_text.fallback) == (["whales"], common_pb2.FALLBACK_TEXT_ONLY)
        (made / "cortex.json").write_text(former)
        await late.ready(90)
        assert (await late.search("music", top_k=1)).hits[0].id == "whales"
        assert (tmp_path / "late.log").read_text().count('"level": "ERROR"') <= 1
    finally:
        await late.close()
    assert job.returncode == 1
    assert "was begun with: cortex.json changed; put the former files back" in job.stderr.splitlines()[-1]


async def test_a_pod_without_the_volume_says_what_to_name(pod: Any) -> None:
    assert "this pod has none with models; name the claim in spec.storage.models" in await refused(pod, **spec())
    assert (await ensured(pod)).id
