"""Which resource the commands are about, and the gateway that they ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

import typer

from cortex_cli.commands.common import fail
from cortex_cli.commands.get import CORTEX, KINDS
from cortex_cli.gateway import Gateway, GatewayError

NamespaceOption = Annotated[str, typer.Option("-n", "--namespace", help="The resource's namespace.")]
GatewayOption = Annotated[
    str | None,
    typer.Option(
        "--gateway",
        metavar="URL",
        envvar="CORTEX_GATEWAY",
        help="A gateway. Of a cluster: kubectl -n cortex-system port-forward service/datapunk-cortex-api 8001:http,"
        " then http://127.0.0.1:8001. Without it: that of the local cluster (cortex up).",
    ),
]
ResourceArgument = Annotated[str, typer.Argument(metavar="KIND/NAME", help="workflow/NAME or index/NAME.")]
AggregateArgument = Annotated[
    str, typer.Argument(metavar="AGGREGATE", help="run/ID, thread/NAME, revision/ID, resource or replica/POD.")
]
_PLURALS: Final = {"index": "indexes", "workflow": "workflows"}
_SECONDS: Final = 620.0
"""More than the gateway allows a rebuild."""


@dataclass(frozen=True)
class Target:
    """A resource; `kind` is `index` or `workflow`."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def argument(self) -> str:
        """As a user writes it."""
        return f"{self.kind}/{self.name} -n {self.namespace}"

    def path(self, rest: str) -> str:
        """A path of the gateway about it."""
        return f"/v1/namespaces/{_quoted(self.namespace)}/{_PLURALS[self.kind]}/{_quoted(self.name)}/{rest}"


def target(text: str, namespace: str) -> Target:
    """KIND/NAME, with any of the kinds' names. Ends the command when it is none."""
    kind, _, name = text.partition("/")
    for short, full in (("index", "CortexIndex"), ("workflow", "CortexWorkflow")):
        if kind.lower() in KINDS[CORTEX, full] and name and "/" not in name:
            return Target(short, namespace, name)
    fail(f"{text!r} is no resource: write workflow/NAME or index/NAME, and its namespace as -n NAMESPACE")


def everything(gateway: Gateway, namespace: str | None) -> list[Target]:
    """The resources of a namespace, or of all."""
    within = f"namespaces/{_quoted(namespace)}/" if namespace else ""
    return [
        Target(kind, item["metadata"].get("namespace", "default"), item["metadata"]["name"])
        for kind, plural in _PLURALS.items()
        for item in gateway.get(f"/v1/{within}{plural}")["items"]
    ]


@contextmanager
def asked(url: str | None, data_dir: Path) -> Iterator[Gateway]:
    """The gateway; what it refuses ends the command."""
    if url is not None and not url.startswith(("http://", "https://")):
        fail(f"--gateway {url} is no URL: write it like http://127.0.0.1:8001")
    try:
        with Gateway(url or _local(data_dir), timeout=_SECONDS) as gateway:
            yield gateway
    except GatewayError as error:
        fail(error.told + ("" if error.reason or url is None else "; is the port-forward still there?"))


def aggregate_path(kind: str, aggregate: str) -> str:
    """`state/...` or `history/...` of an aggregate, whose name may have any characters."""
    first, slash, name = aggregate.partition("/")
    return f"{kind}/{_quoted(first)}{slash}{_quoted(name)}"


def _quoted(segment: str) -> str:
    # `.` and `..` as they are would be steps in the path.
    return quote(segment, safe="") if segment.strip(".") else "%2E" * len(segment)


def _local(data_dir: Path) -> str:
    from cortex_cli.local import wire

    try:
        found = wire.ask(data_dir.absolute(), "status")
    except wire.NotRunning as error:
        fail(f"{error}; or name a cluster's gateway by --gateway URL (kubectl port-forward, see --help)")
    return f"http://127.0.0.1:{found['gateway']['http_port']}"
