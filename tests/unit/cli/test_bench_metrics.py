"""The measures and the loader of `cortex bench retrieval`."""

import gzip
import json
from pathlib import Path

import pytest
from cortex_cli.bench.beir import BeirError, load
from cortex_cli.bench.metrics import ndcg, recall, standard_error


def test_ndcg_is_one_for_the_ideal_order_and_falls_with_rank():
    grades = {"a": 2, "b": 1}
    assert ndcg(["a", "b", "x"], grades) == pytest.approx(1.0)
    assert ndcg(["x", "a", "b"], grades) < ndcg(["a", "x", "b"], grades) < 1


def test_ndcg_of_one_relevant_document_at_rank_two_is_the_discount():
    assert ndcg(["x", "a"], {"a": 1}) == pytest.approx(0.6309297535714575)


def test_what_is_below_the_depth_does_not_count():
    assert ndcg(["x"] * 10 + ["a"], {"a": 1}) == 0
    assert recall(["x"] * 100 + ["a"], {"a": 1}) == 0
    assert recall(["a", "x"], {"a": 1, "b": 1}) == 0.5


def test_the_standard_error_of_equal_values_is_zero():
    assert standard_error([0.5, 0.5, 0.5]) == 0
    assert standard_error([0.0, 1.0]) == pytest.approx(0.5)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("qrels", ["qrels.tsv", "qrels/test.tsv"])
def test_a_data_set_is_loaded_plain_or_packed(tmp_path: Path, packed: bool, qrels: str):
    write(
        tmp_path / "corpus.jsonl",
        json.dumps({"_id": 1, "title": "t", "text": "x"}) + '\n{"_id": 2, "text": " "}\n',
        packed,
    )
    write(tmp_path / "queries.jsonl", '{"_id": "q", "text": "why"}\n{"_id": "unjudged", "text": "no"}\n', packed)
    write(tmp_path / qrels, "query-id\tcorpus-id\tscore\nq\t1\t1\nq\t2\t0\n", packed)
    data = load(tmp_path)
    assert data.queries == {"q": "why"}
    assert data.judgements == {"q": {"1": 1}}
    assert list(data.documents()) == [{"id": "1", "title": "t", "content": "x"}]


def test_a_folder_without_judgements_is_named(tmp_path: Path):
    with pytest.raises(BeirError, match=r"has no qrels\.tsv or qrels/test\.tsv"):
        load(tmp_path)


def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path):
    write(tmp_path / "qrels.tsv", "query-id\tcorpus-id\tscore\nq\t1\thigh\n", False)
    with pytest.raises(BeirError, match=r"qrels\.tsv:2: wanted"):
        load(tmp_path)


def write(file: Path, text: str, packed: bool) -> None:
    file.parent.mkdir(exist_ok=True)
    if packed:
        file = file.with_name(file.name + ".gz")
    file.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
