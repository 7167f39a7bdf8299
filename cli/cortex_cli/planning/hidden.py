"""Secrets and ConfigMaps that a user may not read: they are taken to be there, with every key that is asked for."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

from cortex_operator.cluster import Object, ObjectKey
from cortex_operator.manifests.addresses import Address
from cortex_operator.manifests.network import NETWORK_POLICY
from cortex_operator.manifests.reach import REACH, Reach
from cortex_operator.preview.look import Look
from cortex_operator.preview.run import Proposal, Sandboxes, deployment_key
from cortex_operator.reconcile.loop import KINDS
from cortex_operator.reconcile.references import references

_ANY: Final = "?"
_OWN: Final = {"dsn": "postgresql://localhost/", "url": "redis://localhost"}
"""Addresses that pods can read and that open no way."""


async def assume_hidden(look: Look, worlds: Sandboxes, proposals: Sequence[Proposal]) -> None:
    """Puts them into both sandboxes. Raises Unavailable."""
    assumed: dict[ObjectKey, dict[str, str]] = {}
    for proposal in proposals:
        if proposal.proposed is None:
            continue
        spec = KINDS[proposal.key.kind].model.model_validate(proposal.proposed).spec
        for one in references(spec):
            key = ObjectKey("v1", one.kind, proposal.key.namespace, one.name)
            if await look.find(key) is not None or key not in look.hidden:
                continue
            any_value = _OWN[one.key] if one.address else _ANY
            lake = (one.kind, one.name, one.key) == ("Secret", spec.lake.secret_ref.name, "dsn")
            value = (await _servers(look, proposal) if lake else "") or any_value
            data = assumed.setdefault(key, {})
            data[one.key] = value if data.get(one.key, any_value) == any_value else data[one.key]
    for key, data in assumed.items():
        for sandbox in (worlds.live, worlds.proposed):
            sandbox.take(_made(key, data))


async def _servers(look: Look, proposal: Proposal) -> str:
    """A connection string of the hosts that its pods get to now, so that the rules of its NetworkPolicy stay; empty:
    none is known."""
    deployment = deployment_key(proposal.key)
    policy = await look.find(ObjectKey(*NETWORK_POLICY, deployment.namespace, deployment.name))
    told = ((policy or {}).get("metadata", {}).get("annotations") or {}).get(REACH, "")
    hosts = [_host(each) for each in Reach.load(told).places if isinstance(each, Address)]
    return f"postgresql://{','.join(hosts)}/" if hosts else ""


def _host(address: Address) -> str:
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


def _made(key: ObjectKey, data: dict[str, str]) -> Object:
    metadata = {"name": key.name, "namespace": key.namespace, "uid": str(key)}
    coded = {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}
    return {"apiVersion": "v1", "kind": key.kind, "metadata": metadata, "data": coded}
