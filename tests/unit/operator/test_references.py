"""Which Secrets and ConfigMaps must be there, and what is said of those that are not."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index
from cortex_operator.cluster import MemoryCluster
from cortex_operator.reconcile.references import find_missing_references, references
from objects import a_config_map, a_secret
from podfields import FIELDS, NAMES, every_field, named_objects

LAKE = a_secret("cortex-lake", dsn="postgresql://lake.invalid/cortex")
STATE = a_secret("cortex-state", url="redis://state.invalid")


async def missing(spec: dict[str, Any], *objects: dict[str, Any]) -> list[str]:
    cluster = MemoryCluster()
    for obj in (LAKE, STATE, *objects):
        await cluster.apply(obj)
    found = await find_missing_references(cluster, "default", a_cortex_index(spec=spec).spec)
    return [one.message for one in found]


CASES = {
    "caBundle.configMapRef": ("ConfigMap extra-settings is not there", "create configmap extra-settings --from-lit"),
    "caBundle.secretRef": ("Secret extra-secret is not there", "create secret generic extra-secret"),
    "env.secretKeyRef": ("Secret extra-secret is not there", "--from-literal=token='VALUE'"),
    "envFrom.secretRef": ("Secret extra-secret is not there", "create secret generic extra-secret;"),
    "envFrom.configMapRef": ("ConfigMap extra-settings is not there", "create configmap extra-settings;"),
    "imagePullSecrets": ("Secret extra-secret is not there", "create secret docker-registry"),
}


@pytest.mark.parametrize("field", FIELDS)
async def test_each_field_that_names_an_object_needs_it_and_no_other_field_does(field: str) -> None:
    found = await missing(FIELDS[field])
    assert len(found) == (field in CASES)
    for message in found:
        assert all(words in message for words in CASES[field])
        assert message.endswith("in the folder of -f")


async def test_nothing_is_missing_when_all_is_there() -> None:
    assert await missing(every_field(), *named_objects("default")) == []


@pytest.mark.parametrize("field", ["env.secretKeyRef", "caBundle.secretRef", "caBundle.configMapRef"])
async def test_a_missing_key_is_named_with_the_command_that_adds_it(field: str) -> None:
    objects = (a_secret(NAMES["Secret"], other="a"), a_config_map(NAMES["ConfigMap"], other="a"))
    (message,) = await missing(FIELDS[field], *objects)
    kind = "ConfigMap" if "configMap" in field else "Secret"
    assert message.startswith(f"{kind} {NAMES[kind]} has no key ")
    assert f'patch {kind.lower()} {NAMES[kind]} -p \'{{"{"data" if kind == "ConfigMap" else "stringData"}"' in message


async def test_an_empty_value_will_do_for_a_variable_but_not_for_certificates() -> None:
    empty = a_secret(NAMES["Secret"], token="", **{"roots.pem": ""})
    assert await missing(FIELDS["env.secretKeyRef"], empty) == []
    assert len(await missing(FIELDS["caBundle.secretRef"], empty)) == 1


async def test_an_object_that_is_named_twice_is_missed_once() -> None:
    spec = {**FIELDS["imagePullSecrets"], "envFrom": [{"secretRef": {"name": NAMES["Secret"]}}] * 2}
    assert len(list(references(a_cortex_index(spec=spec).spec))) > len(await missing(spec))
