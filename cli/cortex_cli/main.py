"""The `cortex` command: which commands there are."""

from __future__ import annotations

from typing import Final

from cortex_cli.lazy import Entry, app_of

COMMANDS: Final = (
    Entry("up", "cortex_cli.commands.up:up", "Start the local cluster and apply manifests."),
    Entry("status", "cortex_cli.commands.status:status", "Show what runs, and what is not ready and why."),
    Entry("get", "cortex_cli.commands.get:get", "Show objects of a kind: indexes, workflows, pods, ..."),
    Entry("logs", "cortex_cli.commands.logs:logs", "Show the log of a server, the gateway, a resource or a pod."),
    Entry("delete", "cortex_cli.commands.delete:delete", "Delete the resources of manifests."),
    Entry("down", "cortex_cli.commands.down:down", "Stop the local cluster; its data stays."),
    Entry(
        "gpus", "cortex_cli.commands.gpus:gpus", "Show who holds the GPUs of a cluster, what is free and what waits."
    ),
    Entry("orphans", "cortex_cli.commands.orphans:orphans", "Show data in the Lake whose resource is gone."),
    Entry(
        "plan",
        "cortex_cli.commands.plan:plan",
        "Show what an apply would do: objects, pods, GPUs, revisions.",
        misuse=1,
    ),
    Entry("validate", "cortex_cli.validate:validate", "Check manifests without a cluster."),
)
"""To add a command: a module with a function that typer understands, and a line here."""

BENCHMARKS: Final = (
    Entry("retrieval", "cortex_cli.bench.retrieval:retrieval", "Measure nDCG and recall on a BEIR data set."),
)

STATE: Final = (
    Entry("get", "cortex_cli.commands.state.get:get", "Show the state of a run, a thread, a revision, a resource."),
    Entry("history", "cortex_cli.commands.state.history:history", "Show the events that made a state."),
    Entry("watch", "cortex_cli.commands.state.watch:watch", "Follow the changes of a resource."),
    Entry(
        "doctor",
        "cortex_cli.commands.state.doctor:doctor",
        "Say whether the state is what happened, and where it differs.",
        misuse=1,
    ),
    Entry(
        "rebuild",
        "cortex_cli.commands.state.rebuild:rebuild",
        "Make rows that differ from their events again, and every copy anew.",
        misuse=1,
    ),
)

app = app_of(COMMANDS, "Datapunk Cortex: retrieval and agent services from manifests.")
app.add_typer(app_of(BENCHMARKS, "Measure what is served."), name="bench")
app.add_typer(app_of(STATE, "Show, follow, examine and rebuild the state of resources."), name="state")


def main() -> None:
    """The entry point."""
    app()


if __name__ == "__main__":
    main()
