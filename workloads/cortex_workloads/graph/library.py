"""Compiled graphs of a workflow's revisions: loaded from the Lake on first use, kept, the least used forgotten."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from cortex_kinds.cel import ExpressionError
from pydantic import ValidationError

from cortex_workloads.graph.compile import Workflow, compile_workflow
from cortex_workloads.graph.nodes.base import Tools
from cortex_workloads.runtime.errors import CortexError, FailedPrecondition
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Resource

KEPT: Final = 16


class Library:
    """The graphs of one workflow."""

    def __init__(self, lake: Lake, resource: Resource, tools: Tools) -> None:
        self._lake = lake
        self._resource = resource
        self._tools = tools
        self._kept: OrderedDict[str, Workflow] = OrderedDict()
        self._loading = asyncio.Lock()

    async def get(self, revision: str) -> Workflow:
        """A revision's graph. Raises FailedPrecondition (`RevisionGone`, `GraphInvalid`), Unavailable."""
        if revision not in self._kept:
            async with self._loading:
                if revision not in self._kept:
                    self._kept[revision] = await self._load(revision)
        self._kept.move_to_end(revision)
        workflow = self._kept[revision]
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return workflow

    async def _load(self, revision: str) -> Workflow:
        async with self._lake.connection() as connection:
            found = await revisions.describe(connection, self._resource)
        row = next((row for row in found if row.id == revision), None)
        if row is None:
            raise FailedPrecondition(
                f"revision {revision} of workflow {self._resource.name!r} is no longer in the Lake",
                remedy="begin a new thread, or keep more revisions: spec.revisions.retain",
                reason="RevisionGone",
            )
        try:
            return await asyncio.to_thread(compile_workflow, revision, row.definition, self._tools)
        except (ValidationError, ExpressionError, CortexError) as error:
            raise FailedPrecondition(
                f"revision {revision} of workflow {self._resource.name!r} does not compile: {error}",
                remedy="apply a manifest that `cortex validate` accepts",
                reason="GraphInvalid",
            ) from error
