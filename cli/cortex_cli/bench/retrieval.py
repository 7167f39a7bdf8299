"""`cortex bench retrieval`: how well, and how fast, an index finds what a BEIR data set asks."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from cortex_cli.bench.beir import BeirError, DataSet, load
from cortex_cli.bench.metrics import mean, ndcg, recall, standard_error
from cortex_cli.gateway import Gateway, GatewayError
from cortex_cli.local.ports import free_port

INDEX = "bench"
DEPTH = 100
CLIENTS = 2
LEGS: dict[str, dict[str, Any]] = {
    "text": {"mode": "Text"},
    "vector": {"mode": "Vector"},
    "vector, exact": {"mode": "Vector", "exact": True},
    "hybrid": {"mode": "Hybrid"},
}

console = Console(stderr=True)


@dataclass(frozen=True)
class Score:
    """One leg's figures: means over the queries, standard error of nDCG, median milliseconds of a request."""

    ndcg_at_10: float
    standard_error: float
    recall_at_100: float
    milliseconds: float


def retrieval(
    beir: Annotated[
        Path, typer.Option(help="Folder with corpus.jsonl, queries.jsonl and qrels.tsv or qrels/test.tsv.")
    ],
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep the index here, to measure again without embedding.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON, too.")] = None,
) -> None:
    """Loads a BEIR data set into a local cluster, asks through the gateway, prints nDCG@10 and recall@100 per mode."""
    try:
        data = load(beir)
        with _cluster(data_dir) as gateway:
            _embed(gateway, data)
            scores = {leg: _measure(gateway, data, leg, options) for leg, options in LEGS.items()}
    except (BeirError, GatewayError) as error:
        console.print(f"[red]error:[/red] {error}")
        raise typer.Exit(1) from error
    _print(beir, data, scores)
    if output:
        output.write_text(json.dumps({leg: asdict(score) for leg, score in scores.items()}, indent=2) + "\n")


@contextmanager
def _cluster(data_dir: Path | None) -> Iterator[Gateway]:
    with tempfile.TemporaryDirectory(prefix="cortex-bench-") as scratch:
        folder = data_dir or Path(scratch, "data")
        manifest = Path(scratch, "index.yaml")
        manifest.write_text(
            f"apiVersion: cortex.datapunk.io/v1alpha1\nkind: CortexIndex\nmetadata: {{name: {INDEX}}}\nspec: {{}}\n"
        )
        port = str(free_port())
        options = ("--data-dir", str(folder))
        _cortex("up", "-f", str(manifest), "--http-port", port, "--grpc-port", str(free_port()), *options)
        try:
            with Gateway(f"http://127.0.0.1:{port}") as gateway:
                yield gateway
        finally:
            _cortex("down", *options)


def _cortex(*arguments: str) -> None:
    command = [sys.executable, "-m", "cortex_cli.main", *arguments]
    if subprocess.run(command, check=False, stdout=sys.stderr).returncode:
        raise GatewayError(f"`cortex {' '.join(arguments)}` failed, see above")


def _embed(gateway: Gateway, data: DataSet) -> None:
    reply = gateway.push(INDEX, data.documents())
    console.print(f"{reply['written']} documents written, {reply['unchanged']} unchanged")
    with Progress("embedded", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("embedded", total=None)
        while True:
            now = gateway.progress(INDEX)
            bar.update(task, total=now["documents"], completed=now["embedded"])
            if not now["waiting"]:
                return
            time.sleep(0.5)


def _measure(gateway: Gateway, data: DataSet, leg: str, options: dict[str, Any]) -> Score:
    def ask(query: str) -> tuple[float, float, float]:
        begun = time.monotonic()
        hits = gateway.search(INDEX, data.queries[query], topK=DEPTH, **options)["hits"]
        took = (time.monotonic() - begun) * 1000
        ranking = [hit["id"] for hit in hits]
        grades = data.judgements[query]
        return ndcg(ranking, grades), recall(ranking, grades), took

    with ThreadPoolExecutor(CLIENTS) as pool:
        figures = list(pool.map(ask, data.queries))
    gains = [figure[0] for figure in figures]
    found = mean([figure[1] for figure in figures])
    return Score(mean(gains), standard_error(gains), found, median(figure[2] for figure in figures))


def _print(folder: Path, data: DataSet, scores: dict[str, Score]) -> None:
    table = Table(
        title=f"{folder.name}: {len(data.queries)} queries, top {DEPTH}, {CLIENTS} clients, through the gateway"
    )
    for column in ("mode", "nDCG@10", "± s.e.", "recall@100", "median ms"):
        table.add_column(column, justify="left" if column == "mode" else "right")
    for leg, score in scores.items():
        figures = (score.ndcg_at_10, score.standard_error, score.recall_at_100)
        table.add_row(leg, *(f"{figure:.4f}" for figure in figures), f"{score.milliseconds:.1f}")
    out = Console()
    out.print(table)
    exact = scores["vector, exact"].ndcg_at_10
    out.print(f"vector / exact search: {scores['vector'].ndcg_at_10 / exact if exact else 0:.4f}")
