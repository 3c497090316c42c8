"""Experiments of a real DVC project are collected; a stand-in for the pipeline makes them quick."""

import csv
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from stages.sweep import main
from tests.project import ENVIRONMENT, commit_all, invoke, run

pytestmark = pytest.mark.usefixtures("quick_dvc", "quick_programs")
PROGRAM = """\
import json, pathlib
from ruamel.yaml import YAML
params = YAML(typ="safe").load(pathlib.Path("params.yaml").read_text())
sparsity = params["prune"]["sparsity"]
worse = 2 if params["mask"]["metric"] == "random" else 1
def model(parameters, perplexity):
    return {
        "parameters": parameters, "perplexity": {"geometric_mean": perplexity},
        "accuracy": {"mean": 0.5 - perplexity / 1000, "mean_stderr": 0.02}, "sparsity": {"decoder": sparsity},
    }
factor = 1 + worse * sparsity
dense, pruned = model(1000, 20.0), model(round(1000 * (1 - sparsity)), 20.0 * factor)
metrics = {"dense": dense, "pruned": pruned, "ratio": {"perplexity": {"geometric_mean": factor}}}
pathlib.Path("data").mkdir(exist_ok=True)
pathlib.Path("data/metrics.json").write_text(json.dumps(metrics))
"""
STAGES = """\
stages:
  report:
    cmd: python report.py
    deps: [report.py]
    params: [prune.sparsity, mask.metric]
    metrics: [data/metrics.json: {cache: false}]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed run at 20% and two experiments: 40% and, at 20%, the random metric."""
    directory = tmp_path_factory.mktemp("project")
    (directory / "dvc.yaml").write_text(STAGES, encoding="utf-8")
    (directory / "report.py").write_text(PROGRAM, encoding="utf-8")
    (directory / "params.yaml").write_text(
        "prune: {sparsity: 0.2}\nmask: {metric: fisher}\n", encoding="utf-8"
    )
    run(directory, "git", "init", "--quiet", "--initial-branch", "main")
    run(directory, "dvc", "init", "--quiet")
    run(directory, "dvc", "repro", "--quiet")
    commit_all(directory, "20%")
    run(directory, "dvc", "exp", "run", "--name", "smaller", "-S", "prune.sparsity=0.4")
    blind = ("-S", "prune.sparsity=0.2", "-S", "mask.metric=random")
    run(directory, "dvc", "exp", "run", "--name", "blind", *blind)
    return directory


def sweep(project: Path, *arguments: str, status: int = 0) -> str:
    """What the command prints in a project; DVC and git, which it asks, run as processes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        return invoke(main, *arguments, status=status)


def test_the_commit_and_its_experiments_are_rows(project: Path) -> None:
    text = sweep(project)
    with (project / "data/sweep/sweep.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"main", "smaller", "blind"}
    assert rows["smaller"]["prune.sparsity"] == "0.4"
    assert rows["smaller"]["perplexity"] == "28.00"
    assert rows["main"]["best for its size"] == "perplexity, accuracy"
    # 0.004 apart with errors of 0.02: neither accuracy beats the other.
    assert rows["blind"]["best for its size"] == "accuracy"
    assert "sweep: 3 runs in data/sweep" in text


def test_the_table_and_the_figure_lie_side_by_side(project: Path) -> None:
    sweep(project, "--out", "data/study/first", "--by", "mask.metric")
    table = (project / "data/study/first/sweep.md").read_text(encoding="utf-8")
    assert "| smaller | 0.4 | fisher | 40.0% | 600 |" in table
    assert "(sweep.png)" in table
    assert (project / "data/study/first/sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_setting_that_does_not_vary_is_refused_with_those_that_do(project: Path) -> None:
    message = "Error: --by: mask.seed: the runs differ in prune.sparsity, mask.metric\n"
    assert sweep(project, "--by", "mask.seed", status=1) == message


def test_a_project_without_runs_is_one_message(project: Path, tmp_path: Path) -> None:
    run(tmp_path, "git", "clone", "--quiet", str(project), "clone")
    run(tmp_path / "clone", "git", "rm", "--quiet", "--cached", "data/metrics.json")
    run(tmp_path / "clone", "git", "commit", "--quiet", "--message", "Forget the metrics")
    assert "Error: no run has metrics yet" in sweep(tmp_path / "clone", status=1)


def test_dvc_lists_the_experiments_readably(project: Path) -> None:
    drop = "^data/|^stages|Created|State|Executor"
    lines = run(project, "dvc", "exp", "show", "--only-changed", "--drop", drop).splitlines()
    header = next(line for line in lines if "Experiment" in line)
    assert "prune.sparsity" in header
    assert "report.py" not in header
    assert any("smaller" in line for line in lines)


def test_an_experiment_can_be_applied(project: Path) -> None:
    run(project, "dvc", "exp", "apply", "smaller")
    assert "sparsity: 0.4" in (project / "params.yaml").read_text(encoding="utf-8")
    run(project, "git", "checkout", "--quiet", "--", ".")


def test_a_run_that_failed_shows_nobody_elses_figures(project: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(project, clone)
    failing = PROGRAM.replace("import json", "import sys, json") + "if sparsity == 0.3: sys.exit('no')\n"
    (clone / "report.py").write_text(failing, encoding="utf-8")
    run(clone, "dvc", "repro", "--quiet")
    commit_all(clone, "Fails at 30%")
    for name, sparsity in (("broken", 0.3), ("fine", 0.5)):
        run(clone, "dvc", "exp", "run", "--queue", "--name", name, "-S", f"prune.sparsity={sparsity}")
    subprocess.run(
        ["dvc", "exp", "run", "--run-all"],
        cwd=clone,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        check=False,
    )
    text = sweep(clone)
    assert "sweep: broken left out: failed" in text
    with (clone / "data/sweep/sweep.csv").open(encoding="utf-8", newline="") as file:
        assert {row["run"] for row in csv.DictReader(file)} == {"main", "fine"}


def test_a_commit_whose_settings_were_not_run_is_left_out(project: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "--quiet", str(project), "clone")
    (clone / "params.yaml").write_text("prune: {sparsity: 0.7}\nmask: {metric: fisher}\n", encoding="utf-8")
    run(clone, "git", "commit", "--quiet", "--all", "--message", "Set, not run")
    text = sweep(clone, status=1)
    assert "sweep: main left out: prune.sparsity is not what its metrics were made with" in text
    assert "no run has metrics yet" in text


def test_an_experiment_of_a_part_of_the_pipeline_is_left_out(project: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(project, clone)
    # As `dvc exp run surgery` does: the first stage runs anew, and the metrics stay those of before.
    stages = STAGES.replace("deps: [report.py]", "deps: [report.py, data/cut]")
    stages = stages.replace("params: [prune.sparsity, mask.metric]", "params: [mask.metric]")
    cut = "  cut:\n    cmd: cp params.yaml data/cut\n    params: [prune.sparsity]\n    outs: [data/cut]\n"
    (clone / "dvc.yaml").write_text(stages + cut, encoding="utf-8")
    run(clone, "dvc", "repro", "--quiet")
    commit_all(clone, "In two stages")
    run(clone, "dvc", "exp", "run", "--name", "half", "-S", "prune.sparsity=0.4", "cut")
    text = sweep(clone)
    assert "sweep: half left out: report did not run on what the stage before it made" in text
    with (clone / "data/sweep/sweep.csv").open(encoding="utf-8", newline="") as file:
        assert {row["run"] for row in csv.DictReader(file)} == {"main"}


def test_a_domain_that_is_gone_hides_no_run(project: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(project, clone)
    domains = "domains: {code: 1, news: 2}\n"
    source = (
        "  sources:\n    foreach: ${domains}\n    do:\n      cmd: echo ${key} > ${key}.txt\n"
        "      params: ['domains.${key}']\n      outs: ['${key}.txt']\n"
    )
    (clone / "dvc.yaml").write_text(STAGES + source, encoding="utf-8")
    settings = (clone / "params.yaml").read_text(encoding="utf-8")
    for text in (domains + settings, domains.replace("code: 1, ", "") + settings):
        (clone / "params.yaml").write_text(text, encoding="utf-8")
        run(clone, "dvc", "repro", "--quiet")
    commit_all(clone, "Without code")
    assert "sources@code" in (clone / "dvc.lock").read_text(encoding="utf-8")
    assert "sweep: 1 runs in data/sweep" in sweep(clone)


ASIDE = """\
  aside:
    cmd: cp params.yaml data/aside
    params: [aside]
    outs: [data/aside]
"""
READ = """\
  texts:
    foreach: [news, code]
    do:
      cmd: echo ${item} > data/texts/${item}.txt
      params: [aside]
      outs: ["data/texts/${item}.txt"]
"""


@pytest.mark.parametrize("on_the_way", [False, True])
def test_only_settings_on_the_way_to_the_metrics_count(
    project: Path, tmp_path: Path, on_the_way: bool
) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(project, clone)
    # A folder that is read whole, or a stage whose output no other reads.
    stages = STAGES.replace("[report.py]", "[report.py, data/texts]") + READ if on_the_way else STAGES + ASIDE
    (clone / "dvc.yaml").write_text(stages, encoding="utf-8")
    (clone / "data/texts").mkdir(exist_ok=True)
    settings = "aside: 1\n" + (clone / "params.yaml").read_text(encoding="utf-8")
    (clone / "params.yaml").write_text(settings, encoding="utf-8")
    run(clone, "dvc", "repro", "--quiet")
    (clone / "params.yaml").write_text(settings.replace("aside: 1", "aside: 2"), encoding="utf-8")
    commit_all(clone, "Set, not run")
    text = sweep(clone, status=1 if on_the_way else 0)
    left_out = "sweep: main left out: aside is not what its metrics were made with"
    assert (left_out in text) == on_the_way
    assert ("sweep: 1 runs in data/sweep" in text) != on_the_way
