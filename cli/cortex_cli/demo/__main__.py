"""`python -m cortex_cli.demo`: from two manifests to answers, with real documents, in about two minutes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from cortex_cli.demo.corpus import Document, python_documents
from cortex_cli.gateway import Gateway, GatewayError
from cortex_cli.local import wire
from cortex_cli.local.ports import is_free

EXAMPLES = Path("examples/quickstart")
INDEX = "default/handbook"
WORKFLOW = "default/answers"
DOCUMENTS = 2750
FIRST_PORTS: Final = {"http_port": 8001, "grpc_port": 50051}
TEXT_QUESTION = "compare two sequences of lines"
SEARCHES = (
    "run a command in a new process and stop waiting after some seconds",
    "keep the largest items of a stream without sorting everything",
    "read a zip archive member without extracting it to disk",
)
QUESTIONS = (
    "How do I find out how similar two sequences are?",
    "Which class rotates log files when they grow too large?",
    "How do I compute the median of numeric data?",
)

console = Console()


def main() -> int:
    """Runs the demo; returns the exit code."""
    if not EXAMPLES.is_dir():
        console.print(f"[red]{EXAMPLES} is not here:[/red] start the demo from the project's folder, by `make demo`")
        return 1
    before = state_of_cluster()
    ports = before["gateway"] if before else FIRST_PORTS
    port, grpc_port = (os.environ.get(name.upper(), str(ports[name])) for name in FIRST_PORTS)
    begun = time.monotonic()
    heading("1. Two manifests become services", "cortex up -f examples/quickstart")
    code = cortex("up", "-f", str(EXAMPLES), "--http-port", port, "--grpc-port", grpc_port)
    if code:
        suggest_ports(port, grpc_port)
        return code
    try:
        with Gateway(f"http://127.0.0.1:{port}") as gateway:
            converse(gateway)
    except GatewayError as error:
        console.print(f"[red]The demo stopped:[/red] {escape(str(error))}")
        console.print("See `cortex status` and `cortex logs NAME`; `cortex down` stops what runs.")
        return 1
    console.print(f"\nAll of it took [bold]{time.monotonic() - begun:.0f} s[/bold].")
    return leave(before is not None)


def state_of_cluster() -> dict[str, Any] | None:
    """What the cluster that runs here says of itself; None when there is none."""
    try:
        state: dict[str, Any] = wire.ask(Path(os.environ.get("CORTEX_DATA_DIR", ".cortex")).absolute(), "status")
    except (wire.NotRunning, ValueError):
        return None
    return state


def suggest_ports(*ports: str) -> None:
    """Says how the demo takes other ports, when one of these kept the cluster from being started."""
    if state_of_cluster() is None and not all(is_free(int(port)) for port in ports if port.isdigit()):
        console.print("With other ports: [bold]HTTP_PORT=8101 GRPC_PORT=50151 make demo[/bold]")


def converse(gateway: Gateway) -> None:
    """Pushes documents, watches them being embedded, asks."""
    heading("2. Real documents: the public docstrings of this machine's Python", f"POST .../{INDEX}/documents")
    documents = python_documents(DOCUMENTS)
    push(gateway, documents)
    search(gateway, TEXT_QUESTION, "Text")
    heading("3. Embedding", f"GET .../{INDEX}/progress")
    embed(gateway)
    heading("4. Search: by meaning and by words, fused", f"POST .../{INDEX}/search")
    for query in SEARCHES:
        search(gateway, query, "Hybrid")
    heading("5. The workflow: retrieve, judge, answer", f"POST .../{WORKFLOW}/runs")
    for question in QUESTIONS:
        ask(gateway, question)


def heading(title: str, how: str) -> None:
    """Prints a step's title, and the command or request that does it."""
    console.print(f"\n[bold]{title}[/bold]  [dim]{how}[/dim]")


def cortex(*arguments: str) -> int:
    """Runs the `cortex` command as a user would; returns its exit code."""
    return subprocess.run([sys.executable, "-m", "cortex_cli.main", *arguments], check=False).returncode


def push(gateway: Gateway, documents: list[Document]) -> None:
    """Uploads the documents and says what became of them."""
    begun = time.monotonic()
    reply = gateway.push(INDEX, documents)
    seconds = time.monotonic() - begun
    console.print(
        f"{len(documents)} documents accepted and committed in {seconds:.1f} s: {reply['written']} written, "
        f"{reply['unchanged']} unchanged; {reply['waiting']} wait to be embedded."
    )


def embed(gateway: Gateway) -> None:
    """Shows a progress bar until every document is embedded."""
    columns = (
        TextColumn("embedded"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    begun, first = time.monotonic(), gateway.progress(INDEX)["embedded"]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("embedded", total=None, rate="")
        while True:
            now = gateway.progress(INDEX)
            rate = f"{now.get('rate') or 0:.0f} documents/s"
            if not now["waiting"]:
                mean = (now["embedded"] - first) / (time.monotonic() - begun)
                rate = f"{mean:.0f} documents/s on average" if now["embedded"] > first else ""
            bar.update(task, total=now["documents"], completed=now["embedded"], rate=rate)
            if not now["waiting"]:
                return
            time.sleep(0.25)


def search(gateway: Gateway, query: str, mode: str) -> None:
    """Searches and prints the best hits."""
    begun = time.monotonic()
    result = gateway.search(INDEX, query, mode=mode, topK=3)
    took = (time.monotonic() - begun) * 1000
    coverage = result["coverage"]
    console.print(f"\n[cyan]? {escape(query)}[/cyan]")
    note = ""
    if coverage["embedded"] < coverage["documents"]:
        note = f", while {coverage['embedded']} of {coverage['documents']} documents are embedded"
    indented(f"[dim]{mode} search answered in {took:.0f} ms{note}[/dim]")
    for hit in result["hits"]:
        indented(f"[green]{escape(hit['title'])}[/green]  {escape(first_line(hit['passage']))}")


def ask(gateway: Gateway, question: str) -> None:
    """Runs the workflow and prints its steps, its answer and the answer's source."""
    begun = time.monotonic()
    console.print(f"\n[cyan]? {escape(question)}[/cyan]")
    for name, event in gateway.run(WORKFLOW, {"question": question}):
        if name == "step" and event["phase"] == "Succeeded":
            indented(f"[dim]{event['node']} ({event['type']}) {event.get('message', '')}[/dim]")
        elif name == "completed":
            output = event["output"]
            took = (time.monotonic() - begun) * 1000
            indented(escape(" ".join(output["answer"].split())))
            for source in output.get("sources", [])[:1]:
                indented(
                    f"[green]{escape(source['title'])}[/green] [dim]score {source['score']:.2f}, {took:.0f} ms[/dim]"
                )
        elif name == "failed":
            raise GatewayError(f"the workflow failed: {event['code']}: {event['message']}")


def indented(markup: str) -> None:
    """Prints below a question, every line of it two columns in."""
    for line in Text.from_markup(markup).wrap(console, console.width - 2):
        line.rstrip()
        console.print(Text("  ").append_text(line))


def first_line(text: str) -> str:
    """The beginning of a passage, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= 90 else line[:89] + "…"


def leave(was_running: bool) -> int:
    """Stops what the demo started, or says how to go on."""
    if was_running:
        console.print("The cluster ran before the demo, so it stays up; the quickstart's resources are in it now.")
    elif os.environ.get("KEEP") != "1":
        console.print("Stopping; `KEEP=1 make demo` leaves it up. The data stays: the next run embeds nothing anew.")
        return cortex("down")
    console.print("Try next:")
    console.print("  .venv/bin/cortex status")
    console.print("  .venv/bin/cortex get indexes -o yaml")
    console.print("  edit examples/quickstart/workflow.yaml and run `.venv/bin/cortex up -f examples/quickstart` again")
    console.print("  .venv/bin/cortex down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
