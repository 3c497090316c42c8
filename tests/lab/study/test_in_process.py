"""Experiments in one process against the stages themselves: the same params give the same perplexities."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.study.__main__ import main
from lab.study.experiment_results import read_results
from lab.study.grid import Experiment, grid
from lab.study.in_process import Laboratory
from secateurs.checkpoints.loading import load_model, load_tokenizer
from secateurs.checkpoints.proof import Proof
from secateurs.errors import InputError
from secateurs.evaluation.perplexity import score_domains
from secateurs.families.decoder import decoder_parameters
from stages import benchmarks, capture, corpus, mask, model, sample, sources, surgery
from stages.common.artifacts import read_sequences
from stages.params.file import read_params
from tests.project import ROOT, invoke, invoke_all, lines_of, model_at, read_yaml, text, write_params

AXES = """\
grids: {small: {about: Made up., settings: {}, seeds: [0]}}
axes:
  draw: {question: How far?, show: choice, points: {default: {}}}
  all:
    question: Are they the same?
    show: choice
    points:
      another draw: {corpus.seed: 1, sample.documents: 8, rounds: 2, surgery.heal: least_squares}
      alone:
        rounds: 1
        prune.sites: [mlp, attention]
        prune.widths: per_layer
        mask.metric: wanda
        capture.sequences: 1
        surgery.sequences: 2
        surgery.reconstruct.epochs: 1
        only: news
"""


@pytest.fixture
def project(here: Path, dense_dir: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A directory with params.yaml, text and a file of axes, as the stages up to corpus leave it."""
    params = read_yaml()
    for number, name in enumerate(("code", "news")):
        (here / f"{name}.txt").write_text(text(number), encoding="utf-8")
    item = {"question": "Who?", "choices": ["I", "you"], "labels": ["A", "B"], "answer": "A"}
    (here / "items.jsonl").write_text(f"{json.dumps(item)}\n" * 2)
    params["domains"] = {name: lines_of(f"{name}.txt") for name in ("code", "news")}
    params["model"] = model_at(dense_dir)
    params["mixture"] = {"code": 2.0, "news": 1.0, "self": 1.0, "dialogues": 0.0}
    params["benchmarks"] = {"openbookqa": {"source": "path", "path": "items.jsonl"}}
    params["sample"] |= {"documents": 6, "tokens": 48, "batch_size": 6}
    params["corpus"] |= {"sequence_length": 24, "calibration_sequences": 6, "heldout_sequences": 3}
    params["capture"] |= {"sequences": 2}
    params["surgery"] |= {"sequences": 5, "choice_sequences": 1}
    params["prune"] |= {"width_multiple": 1}
    # A fresh process for every checkpoint takes long and is tested elsewhere.
    monkeypatch.setattr(surgery, "prove_load", lambda *_: Proof("5", "LlamaForCausalLM", 1, 0.0))
    Path("axes.yaml").write_text(AXES, encoding="utf-8")
    write_params(Path(), params)
    invoke_all((model.main,), (benchmarks.main,), (sample.main,))
    invoke_all(*((sources.main, name) for name in params["domains"]))
    return params


def through_stages(one: Experiment) -> tuple[float, dict[str, float]]:
    """Share removed and perplexities of data/pruned, after the stages ran through their files."""
    write_params(Path(), one.params)
    rounds = [(stage, name) for name in one.checked.chain() for stage in (capture.main, mask.main)]
    invoke_all((sample.main,), (corpus.main,), *rounds, (surgery.main,))
    dense, pruned = (load_model(Path("data", name), "float32") for name in ("model", "pruned"))
    heldout = read_sequences(Path("data/corpus/heldout.parquet"))
    scores = score_domains(pruned, load_tokenizer(Path("data/pruned")), heldout, 4)
    removed = 1 - decoder_parameters(pruned) / decoder_parameters(dense)
    return removed, {domain: score.perplexity for domain, score in scores.items()}


def test_an_experiment_in_memory_is_the_one_of_the_stages(project: dict[str, Any]) -> None:
    experiments = grid("small", project, Path("axes.yaml")).experiments()
    assert len(experiments) == 3
    laboratory = Laboratory(Path("data"), read_params())
    results = [laboratory.result(one) for one in experiments]
    assert len({one.pruned.mean for one in results}) == 3, "no two experiments are alike"
    for one, result in zip(experiments, results, strict=True):
        removed, perplexities = through_stages(one)
        assert result.removed == pytest.approx(removed), one.name
        assert result.pruned.perplexity == pytest.approx(perplexities, rel=1e-5), one.name


def test_a_run_goes_on_where_it_stopped_and_ends_in_a_page(project: dict[str, Any]) -> None:
    arguments = ["--axes", "axes.yaml"]
    planned = invoke(main, "plan", *arguments).splitlines()
    assert planned[0] == "dvc exp run --queue --name study-small-draw-default-s0"
    assert planned[-1].startswith("All 3 take about ")
    first = invoke(main, "run", *arguments, "--axis", "draw")
    assert "1/1 study-small-draw-default-s0" in first
    assert list(read_results(Path("data/study/small.csv"))) == ["study-small-draw-default-s0"]
    assert "2 of 3 experiments to run" in invoke(main, "run", *arguments)
    assert "0 of 3 experiments to run" in invoke(main, "run", *arguments)
    assert "study: 3 of 3 experiments in data/study/small.md" in invoke(main, "page", *arguments)
    assert "seconds" in Path("data/study/small.md").read_text(encoding="utf-8")
    # Other params are other experiments, under whatever name.
    write_params(Path(), project | {"mask": project["mask"] | {"seed": 1}})
    assert "1 of 1 experiments to run" in invoke(main, "run", *arguments, "--axis", "draw")


@pytest.mark.usefixtures("quick_programs")
def test_processes_side_by_side_add_to_one_table(project: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "lab.study.__main__", "run", "--axes", "axes.yaml", "--part"]
    both = [
        subprocess.Popen([*command, part], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)
        for part in ("1/2", "2/2")
    ]
    said = [one.communicate()[0].decode().splitlines()[0] for one in both]
    assert said == ["2 of 2 experiments to run", "1 of 1 experiments to run"]
    assert [one.returncode for one in both] == [0, 0]
    names = [one.name for one in grid("small", project, Path("axes.yaml")).experiments()]
    assert sorted(read_results(Path("data/study/small.csv"))) == sorted(names)
    assert [file.name for file in Path("data/study").iterdir()] == ["small.csv"]


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "a/b"])
def test_a_part_that_is_none_is_refused(project: dict[str, Any], part: str) -> None:
    output = invoke(main, "run", "--axes", "axes.yaml", "--part", part, status=1)
    assert f"--part: {part}: write it as 2/3, the second of three" in output


def test_what_all_share_cannot_be_set_by_one(project: dict[str, Any]) -> None:
    Path("axes.yaml").write_text(AXES.replace("default: {}", "default: {compute.dtype: bfloat16}"))
    (one,) = grid("small", project, Path("axes.yaml"), "draw").experiments()
    with pytest.raises(InputError, match="study-small-draw-default-s0: sets compute, which all"):
        Laboratory(Path("data"), read_params()).result(one)
