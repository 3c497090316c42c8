"""`secateurs init`: params.yaml by which the pipeline does what `secateurs prune` does."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from secateurs.cli import main
from stages import capture, corpus, init, mask, model, plan, sample, sources, surgery
from stages.params.file import read_params
from tests.project import ENVIRONMENT, PARAMS, ROOT, commit_all, read_yaml, run, text

MODEL = ["model", "--text", "tickets.jsonl:body", "--text", "docs", "--tokens", "24", "--device", "cpu"]
MODEL += ["--set", "prune.width_multiple=8"]
FEW = ["--set", "surgery.sequences=4", "--set", "surgery.choice_sequences=1", "--set", "capture.sequences=2"]
FEW += ["--set", "mixture.tickets=2", "--set", "mixture.docs=1"]


@pytest.fixture
def clone(here: Path, dense_dir: Path) -> Path:
    """A folder with the project's params.yaml, a model, JSON lines and a folder of pages."""
    shutil.copy(PARAMS, here / "params.yaml")
    shutil.copytree(dense_dir, here / "model")
    lines = (json.dumps({"body": line}) for line in text(3).splitlines())
    (here / "tickets.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (here / "docs").mkdir()
    for number, page in enumerate(text(11).splitlines()):
        (here / "docs" / f"{number}.md").write_text(page, encoding="utf-8")
    return here


def written(*arguments: str) -> dict[str, Any]:
    """params.yaml as plain mappings, after init wrote it and the plan checked it."""
    for command, given in ((init.main, [*MODEL, *arguments]), (plan.main, ["--check"])):
        done = CliRunner().invoke(command, given)
        assert done.exit_code == 0, done.output
    return read_yaml(Path("params.yaml"))


@pytest.mark.usefixtures("quick_programs")
def test_the_pipeline_writes_the_weights_that_the_command_writes(clone: Path) -> None:
    done = CliRunner().invoke(main, ["prune", *MODEL, *FEW, "--sparsity", "0.15", "--out", "small"])
    assert done.exit_code == 0, done.output
    written(*FEW, "--sparsity", "0.15")
    rounds = [[stage.main, name] for name in ("r1", "r2", "r3") for stage in (capture, mask)]
    domains = [[sources.main, name] for name in ("tickets", "docs")]
    for command, *given in ([model.main], *domains, [sample.main], [corpus.main], *rounds, [surgery.main]):
        done = CliRunner().invoke(command, given)
        assert done.exit_code == 0, done.output
    by_command, by_pipeline = (load_file(Path(one, "model.safetensors")) for one in ("small", "data/pruned"))
    assert by_command.keys() == by_pipeline.keys()
    assert all(torch.equal(weight, by_pipeline[name]) for name, weight in by_command.items())
    assert Path("small/config.json").read_bytes() == Path("data/pruned/config.json").read_bytes()
    dense = load_file(clone / "model/model.safetensors")
    assert sum(map(torch.numel, by_pipeline.values())) < sum(map(torch.numel, dense.values()))


def test_what_is_not_asked_for_stays_with_its_comments(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["init", *MODEL])
    before = (clone / "params.yaml").read_text(encoding="utf-8")
    there = read_yaml()
    now = written()
    for group in ("sample", "evaluate", "recover", "export", "capture", "mask", "rounds", "surgery"):
        assert now[group] == there[group]
    lines = (clone / "params.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"# Written by: secateurs init {shlex.join(MODEL)}"
    _, _, end = before.partition("# Where and how stages compute.\n")
    comments = [line.partition("#")[2] for line in end.splitlines()]
    assert [line.partition("#")[2] for line in lines][-len(comments) :] == comments


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "prune.parameters=29500"], {"parameters": 29500}),
        (
            ["--set", 'prune.memory={"bytes": 44000, "precision": "q8_0"}'],
            {"memory": {"bytes": 44000, "precision": "q8_0"}},
        ),
        (["--sparsity", "0.1"], {"sparsity": 0.1}),
        (["--set", "prune.sites=[]", "--set", "prune.vocabulary.rows=128"], {}),
    ],
)
def test_one_target_takes_the_place_of_another(
    clone: Path, arguments: list[str], expected: dict[str, Any]
) -> None:
    prune = written(*arguments)["prune"]
    assert {key: prune[key] for key in ("sparsity", "parameters", "memory") if key in prune} == expected


def test_kinds_shares_and_rounds_are_written_as_they_are_given(clone: Path) -> None:
    values = ['prune.sites=["mlp", "attention"]', 'prune.shares={"mlp": 3, "attention": 1}']
    values.append('rounds={"first": 0.5, "last": 1.0}')
    written(*(part for value in values for part in ("--set", value)), "--export", "q8_0")
    params = read_params()
    assert params.prune.sites == ["mlp", "attention"]
    assert params.prune.shares == {"mlp": 3, "attention": 1}
    assert {name: one.after for name, one in params.rounds.items()} == {"first": "dense", "last": "first"}
    assert params.surgery.after == "last"
    assert params.export.precision == "q8_0"


def test_it_computes_in_the_dtype_of_the_weights(clone: Path) -> None:
    config = json.loads((clone / "model/config.json").read_text(encoding="utf-8"))
    (clone / "model/config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}), encoding="utf-8")
    assert written()["compute"]["dtype"] == "bfloat16"


def test_a_recovery_and_tasks_are_written_as_they_are_given(clone: Path) -> None:
    item = {"goal": "Prune", "choices": ["by hand", "by saw"], "labels": ["A", "B"], "answer": "A"}
    (clone / "items.jsonl").write_text("\n".join([json.dumps(item)] * 2), encoding="utf-8")
    now = written("--recover", "90s", "--set", "recover.weights=low_rank", "--eval", "piqa=items.jsonl,arc_easy", "--limit", "4")  # fmt: skip  # noqa: E501
    assert now["recover"]["minutes"] == 1.5
    assert now["recover"]["weights"] == "low_rank"
    assert now["recover"]["mixture"] == {"calibration": 1.0, "plain": 0.0, "dialogues": 0.0}
    assert now["benchmarks"] == {
        "piqa": {"source": "path", "path": "items.jsonl"},
        "arc_easy": {"source": "stock"},
    }
    assert now["evaluate"]["limit"] == 4


def test_a_second_order_leaves_nothing_of_the_first(clone: Path) -> None:
    once = written("--sparsity", "0.15")
    written("--set", "prune.parameters=29500", "--set", "mask.metric=wanda", "--export", "q8_0")
    assert written("--sparsity", "0.15", "--export", once["export"]["precision"]) == once


def test_changes_that_are_not_committed_are_overwritten_by_force_alone(clone: Path) -> None:
    run(clone, "git", "init", "--quiet")
    commit_all(clone, "As it is")
    written()
    said = CliRunner().invoke(init.main, MODEL)
    assert said.exit_code == 1
    assert "params.yaml: has changes that are not committed; commit them, or overwrite them by --force" in (
        said.output
    )
    written("--force", "--sparsity", "0.1")


def test_wrong_text_is_said_and_params_yaml_stays(clone: Path) -> None:
    before = (clone / "params.yaml").read_bytes()
    said = CliRunner().invoke(init.main, ["model", "--text", "none.txt"])
    assert said.exit_code == 1
    assert "domains.none.path: none.txt: no such file" in said.output
    assert (clone / "params.yaml").read_bytes() == before


def test_the_program_hands_over_in_a_clone_and_says_how_to_get_one_elsewhere(here: Path) -> None:
    program = [sys.executable, "-m", "secateurs.cli", "init", "--help"]
    for folder, status, words in ((ROOT, 0, "--force"), (here, 1, "clone the repository of Secateurs")):
        done = subprocess.run(
            program, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        assert words in done.stdout + done.stderr
