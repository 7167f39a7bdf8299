"""Models of one's own: what a spec may say, and what is part of the revision."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index
from cortex_kinds.revision import index_definition, revision_id
from pydantic import ValidationError

VOLUME = {"models": {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "models"}}}


def identity(**spec: Any) -> str:
    return revision_id(index_definition(a_cortex_index(spec=spec).spec))


def own(**local: str) -> dict[str, Any]:
    return {"embedding": {"local": {"model": "e5-small", **local}}, "storage": VOLUME}


def test_a_revision_is_another_with_another_model_or_digest_and_no_other_with_another_volume() -> None:
    ids = [identity(), identity(**own()), identity(**own(sha256="0" * 64)), identity(**own(sha256="1" * 64))]
    assert len(set(ids)) == len(ids)
    assert identity(storage=VOLUME) == identity() == "cd3e8c759c"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"embedding": own()["embedding"]}, "name it in spec.storage.models"),
        ({**own(), "storage": {}}, "name it in spec.storage.models"),
        ({"embedding": {"local": {"sha256": "0" * 64}}}, "sha256 is for a model of your own"),
        ({**own(), "storage": {"models": {"type": "PersistentVolumeClaim"}}}, "given exactly when `type`"),
        (own(model=".."), "should match"),
        (own(model="a/b"), "should match"),
    ],
)
def test_what_names_no_file_is_refused(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        a_cortex_index(spec=spec)
