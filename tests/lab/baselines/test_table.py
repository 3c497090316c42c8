"""The command on a tiny project: every method prunes the dense model, and all results are scored alike."""

import csv
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from lab.baselines.__main__ import main
from lab.baselines.table_rows import METHODS, all_rows
from secateurs.checkpoints.loading import load_model
from stages.common.artifacts import write_sequences
from tests.evaluation.test_local_tasks import write_items
from tests.project import invoke, random_sequences, read_yaml, write_dense_round, write_params
from tests.tiny import make_tiny_model, make_tiny_tokenizer

DOMAINS = ("code", "news")
GOALS = ("open the jar", "cut the branch", "dry the leaf", "sharpen the blade", "oil the hinge")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """params.yaml, a dense model of SmolLM2's shape in small, and text of two domains."""
    directory = tmp_path_factory.mktemp("project")
    data = read_yaml()
    domain = data["domains"]["news"]
    data |= {
        "domains": dict.fromkeys(DOMAINS, domain),
        "mixture": {"code": 1.0, "news": 1.0, "self": 0.0, "dialogues": 0.0},
        "benchmarks": {},
        "compute": {"device": "cpu", "dtype": "float32", "launch": "python"},
    }
    data["model"]["name"] = "Tiny"
    data["corpus"]["calibration_sequences"] = 4
    data["surgery"] |= {"sequences": 3, "choice_sequences": 1}
    data["capture"]["sequences"] = 2
    data["prune"]["width_multiple"] = 4
    data["evaluate"] |= {"prompt_tokens": 8, "decode_tokens": 2, "repeats": 1}
    write_params(directory, data)
    sizes = {"hidden_size": 36, "num_attention_heads": 9, "num_key_value_heads": 3, "num_hidden_layers": 8}
    # Answers are written up to half of the context: tests need none of 256 tokens.
    model = make_tiny_model(**sizes, max_position_embeddings=128)
    model.save_pretrained(directory / "data/model")
    make_tiny_tokenizer().save_pretrained(directory / "data/model")
    write_dense_round(directory, model)
    generator = torch.Generator().manual_seed(0)
    for split, domains in (("calibration", (*DOMAINS, "self")), ("heldout", DOMAINS)):
        rows = random_sequences(domains, 16, generator, lowest=2)
        write_sequences(directory / f"data/corpus/{split}.parquet", rows, {})
    return directory


@pytest.fixture
def inside(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def with_tasks(inside: Path) -> Path:
    data, default = read_yaml(inside / "params.yaml"), read_yaml()
    data["benchmarks"] = dict.fromkeys(("piqa", "gsm8k"), default["benchmarks"]["piqa"])
    write_params(inside, data)
    (inside / "data/benchmarks").mkdir()
    choices = [
        {"goal": goal, "choices": [f"{n} times", "wait"], "labels": ["A", "B"], "answer": "AB"[n % 2]}
        for n, goal in enumerate(GOALS)
    ]
    write_items(inside / "data/benchmarks/piqa.jsonl", choices)
    write_items(inside / "data/benchmarks/gsm8k.jsonl", [{"question": goal, "answer": "7"} for goal in GOALS])
    return inside


def table(*arguments: str, status: int = 0) -> str:
    return invoke(main, "--share", "0.3", *arguments, status=status)


def records(directory: Path, table: str = "data/baselines/tiny") -> dict[str, dict]:
    found = json.loads((directory / table / "records.json").read_text(encoding="utf-8"))
    return {one["key"]: one for one in found}


def test_every_row_is_made_or_says_why_not_and_is_not_made_twice(with_tasks: Path) -> None:
    other = with_tasks / "smaller"
    make_tiny_model(num_hidden_layers=2, max_position_embeddings=128).save_pretrained(other)
    make_tiny_tokenizer().save_pretrained(other)
    arguments = ("--beside", str(other), "--ours", "per layer:prune.widths=per_layer", "--left-out", "code")
    table(*arguments)
    found = records(with_tasks)
    assert set(found) == {row.key for row in all_rows([other], {"per layer": {}})}
    failed = {key: one["failed"] for key, one in found.items() if "failed" in one}
    # This text has no worked answers, and optipfair is in an environment of its own.
    assert set(failed) == {"gisp-margin", "optipfair-data"}, failed
    assert "no calibration text says 'The answer is (A).'" in failed["gisp-margin"]
    for key, one in found.items():
        if key in failed or one["share"] == 0.0:
            continue
        assert one["removed"] == pytest.approx(0.3, abs=0.08), key
        assert set(one["perplexity"]) == {"code", "news"}
        for name in ("difference", "difference_from_ours"):
            told = {"piqa", "piqa_stderr", "gsm8k", "mean", "mean_stderr"} <= set(one[name])
            assert told == (key != "secateurs" or name == "difference"), (key, name)
    text = (with_tasks / "data/baselines/tiny/table.md").read_text(encoding="utf-8")
    assert "| left out: code |" in text
    assert "| row - ours |" in text
    assert "| Secateurs, per layer |" in text
    assert (with_tasks / "data/baselines/tiny/figure.png").stat().st_size > 10_000
    again = table(*arguments)
    # Only what failed is tried again.
    assert again.count("scored in") == len(failed)


def test_a_domain_of_weight_0_is_in_the_column_of_left_out_text(with_tasks: Path) -> None:
    params = read_yaml(with_tasks / "params.yaml")
    params["mixture"]["news"] = 0.0
    write_params(with_tasks, params)
    table("--row", "magnitude")
    dense, pruned = (records(with_tasks)[key]["perplexity"] for key in ("dense", "magnitude"))
    with (with_tasks / "data/baselines/tiny/table.csv").open(encoding="utf-8") as file:
        row = next(one for one in csv.DictReader(file) if one["method"].startswith("magnitude"))
    assert row["perplexity / dense"] == f"{pruned['code'] / dense['code']:.3f}"
    assert row["left out: news"] == f"{pruned['news'] / dense['news']:.3f}"


def test_text_that_is_left_out_is_read_by_no_method(inside: Path) -> None:
    rows = ("--row", "secateurs", "--row", "wanda-sp")
    for without, out in (("news", "one"), ("code", "third")):
        table(*rows, "--left-out", without, "--out", out)
    params = read_yaml(inside / "params.yaml")
    params["mixture"]["news"] = 0.0
    write_params(inside, params)
    table(*rows, "--out", "other")
    one, other, third = (records(inside, name) for name in ("one", "other", "third"))
    assert set(one) == {"dense", "secateurs", "wanda-sp"}
    for key, record in one.items():
        assert record["perplexity"] == other[key]["perplexity"]
        assert (record["perplexity"] == third[key]["perplexity"]) == (key == "dense")


def test_every_item_is_scored_whatever_the_limit_of_the_evaluation(with_tasks: Path) -> None:
    params = read_yaml(with_tasks / "params.yaml")
    params["evaluate"]["limit"] = 2
    write_params(with_tasks, params)
    for arguments, items in (((), 2), (("--limit", "0"), 5)):
        table("--row", "dense", *arguments)
        assert records(with_tasks)["dense"]["accuracy"]["piqa"]["items"] == items


def test_the_dense_row_is_the_dense_model_and_its_difference_is_none(with_tasks: Path) -> None:
    table("--row", "magnitude")
    found = records(with_tasks)
    assert set(found) == {"dense", "magnitude"}
    assert found["dense"]["difference"] == {}
    # Our own row was not made.
    assert found["magnitude"]["difference_from_ours"] == {}
    assert "piqa" in found["magnitude"]["difference"]
    assert found["dense"]["parameters"] == load_model(Path("data/model"), "float32").num_parameters()
    assert found["magnitude"]["title"] == "magnitude"


def test_rows_of_processes_side_by_side_make_one_table(with_tasks: Path) -> None:
    one, other = with_tasks / "one", with_tasks / "other"
    table("--row", "magnitude", "--out", str(one))
    table("--row", "wanda-sp", "--out", str(other))
    output = table("--row", "dense", "--out", str(one), "--take", str(other))
    assert "scored in" not in output

    table("--row", "magnitude", "--row", "wanda-sp")
    together = records(with_tasks)
    there = {row["key"]: row for row in json.loads((one / "records.json").read_text(encoding="utf-8"))}
    assert list(there) == ["dense", "magnitude", "wanda-sp"]
    for key, row in there.items():
        for name in ("perplexity", "accuracy", "difference"):
            assert row[name] == together[key][name], (key, name)
    assert "| Wanda-sp |" in (one / "table.md").read_text(encoding="utf-8")


def test_a_row_that_fails_by_a_fault_shows_where(with_tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(model: PreTrainedModel, text: Mapping[str, Tensor], share: float) -> None:
        torch.zeros(2) @ torch.zeros(3)

    monkeypatch.setitem(METHODS, "magnitude", ("magnitude", faulty))
    output = table("--row", "magnitude")
    assert records(with_tasks)["magnitude"]["failed"].startswith("inconsistent tensor size")
    assert "in faulty\n    torch.zeros(2) @ torch.zeros(3)" in output


def test_a_table_of_other_settings_is_not_taken(with_tasks: Path) -> None:
    table("--row", "dense", "--out", str(with_tasks / "other"))
    output = table("--row", "dense", "--limit", "3", "--take", str(with_tasks / "other"), status=1)
    assert "other: made with other settings than here: limit" in output


def test_no_row_is_started_when_the_time_is_over(with_tasks: Path) -> None:
    output = table("--row", "magnitude", "--minutes", "0")
    assert "2 not started for want of time: dense at 0%, magnitude at 30%" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--left-out", "poetry"), "--left-out: poetry: no such domain; there are code, news"),
        (("--ours", "per layer"), "--ours: per layer: write TITLE:KEY=VALUE,KEY=VALUE"),
    ],
)
def test_a_wrong_option_is_one_message(inside: Path, arguments: tuple[str, ...], message: str) -> None:
    output = table(*arguments, status=1)
    assert f"Error: {message}" in output


def test_a_model_of_another_vocabulary_is_refused_in_its_row(inside: Path) -> None:
    other = inside / "other"
    make_tiny_model(max_position_embeddings=128).save_pretrained(other)
    tokenizer = make_tiny_tokenizer()
    tokenizer.add_tokens(["more"])
    tokenizer.save_pretrained(other)
    table("--row", "dense", "--beside", str(other))
    assert "another vocabulary" in records(inside)[f"beside:{other}"]["failed"]


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("nowhere/python", "--optipfair: nowhere/python: cannot be started: No such file or directory"),
        (sys.executable, "optipfair: ModuleNotFoundError: No module named 'optipfair'"),
    ],
)
def test_a_peer_that_does_not_run_says_why_in_its_row(inside: Path, python: str, message: str) -> None:
    table("--row", "optipfair-data", "--optipfair", python)
    assert records(inside)["optipfair-data"]["failed"] == message


@pytest.mark.baselines
def test_optipfair_in_its_own_environment_meets_the_share(inside: Path) -> None:
    table("--row", "optipfair-data", "--optipfair", os.environ["BASELINES_PYTHON"])
    record = records(inside)["optipfair-data"]
    assert record["removed"] == pytest.approx(0.3, abs=0.03), record
    assert record["memory_bytes"] is None
