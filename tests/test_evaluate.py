"""The three stages that measure a checkpoint, on the tiny model."""

import json
import shutil
from pathlib import Path

import pytest
from click import Command

from secateurs.text.documents import Sequence
from stages import cost, perplexity, tasks, timings
from stages.common.artifacts import read_answers, write_sequences
from stages.reporting.speed import read_timings, speed
from tests.evaluation.test_local_tasks import ITEMS, write_items
from tests.project import ROOT, invoke, read_yaml, write_params


@pytest.fixture
def project(here: Path, dense_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(dense_dir, here / "data/model")
    params = read_yaml()
    params["benchmarks"] = {"piqa": params["benchmarks"]["piqa"]}
    params["compute"]["device"] = "cpu"
    params["evaluate"] |= {"prompt_tokens": 16, "decode_tokens": 2, "repeats": 1}
    write_params(here, params)
    rows = [Sequence(domain, ("d",), tuple(range(5, 21))) for domain in ("news", "code")]
    write_sequences(here / "data/corpus/heldout.parquet", rows, {})
    (here / "data/benchmarks").mkdir()
    write_items(here / "data/benchmarks/piqa.jsonl", [ITEMS["piqa"][0]] * 3)
    # The process that measures memory starts here as well.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return here


def written(project: Path, stage: Command, *arguments: str) -> dict:
    invoke(stage, "pruned", *arguments)
    return json.loads(
        (project / f"data/evaluations/pruned/{stage.callback.__module__.split('.')[-1]}.json").read_text()
    )


def test_perplexity_is_by_domain_and_with_continuations(project, dense_dir):
    found = written(project, perplexity.main, "--checkpoint", str(dense_dir))
    assert set(found) == {"perplexity", "samples", "settings"}
    assert list(found["perplexity"]["domains"]) == ["news", "code"]


def test_tasks_keep_the_answer_to_every_item(project, dense_dir):
    found = written(project, tasks.main, "--checkpoint", str(dense_dir))
    assert found["accuracy"]["piqa"]["items"] == 3
    answers = read_answers(project / "data/evaluations/pruned/answers.parquet")
    assert [(row.task, row.item, row.metric) for row in answers] == [
        ("piqa", str(n), "acc_norm") for n in range(3)
    ]
    assert sum(row.score for row in answers) / 3 == found["accuracy"]["piqa"]["acc_norm"]


def test_cost_is_the_same_at_every_run(project, dense_dir):
    found = [written(project, cost.main, "--checkpoint", str(dense_dir)) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0]["cost"]["weight_bytes"] > 0


def test_times_are_taken_once_for_the_same_checkpoints(project, dense_dir):
    for name in ("model", "pruned"):
        shutil.copytree(dense_dir, project / "data" / name, dirs_exist_ok=True)
    assert "pruned beside dense, 1 pairs" in invoke(timings.main)
    found = read_timings("pruned")
    assert found["memory"]["this"] > 0
    for phase in ("prefill", "decode"):
        assert speed(found, phase).lowest <= speed(found, phase).ratio <= speed(found, phase).highest
    assert invoke(timings.main) == ""
    (project / "data/pruned/model.safetensors").touch()
    assert read_timings("pruned") is None


@pytest.mark.parametrize("stage", [perplexity.main, tasks.main, cost.main])
def test_a_missing_checkpoint_is_one_message(project, stage):
    output = invoke(stage, "dense", "--checkpoint", "data/none", status=1)
    assert "data/none: no checkpoint there; give the folder" in output
    assert not (project / "data/evaluations").exists()
