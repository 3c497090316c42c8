"""A study of a real DVC project, with a stand-in for the pipeline that makes it quick."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.study.__main__ import main
from tests.project import ENVIRONMENT, PARAMS, commit_all, invoke, run

pytestmark = pytest.mark.usefixtures("quick_dvc", "quick_programs")
AXES = """\
grids: {small: {about: Made up., settings: {}, seeds: [0]}}
axes:
  draw: {question: How far?, show: choice, points: {default: {}}}
  sites: {question: Where?, show: choice, points: {both: {"prune.sites": [mlp, attention]}, one: {}}}
  rounds: {question: How many?, show: choice, points: {two: {rounds: 2}, bad: {mask.metric: random}}}
"""
PROGRAM = """\
import json, pathlib
from ruamel.yaml import YAML
params = YAML(typ="safe").load(pathlib.Path("params.yaml").read_text())
if params["mask"]["metric"] == "random":
    raise SystemExit("nothing good comes of it")
def model(parameters, perplexity):
    domains = {"code": perplexity, "news": 4 * perplexity, "geometric_mean": 2 * perplexity}
    accuracy = {"mean": 0.5, "mean_stderr": 0.02, "piqa": {"acc": 0.5, "items": 40}}
    return {"parameters": parameters, "perplexity": domains, "accuracy": accuracy}
pruned = model(800, 10.0 + len(params["rounds"]) + len(params["prune"]["sites"]))
pruned["sparsity"] = {"decoder": params["prune"]["sparsity"]}
pathlib.Path("data").mkdir(exist_ok=True)
pathlib.Path("data/metrics.json").write_text(json.dumps({"dense": model(1000, 10.0), "pruned": pruned}))
"""
QUEUE = "dvc exp run --queue --name"
STAGES = """\
stages:
  report:
    cmd: python report.py
    deps: [report.py]
    params: [corpus, mask, prune, rounds, mixture, surgery]
    metrics: [data/metrics.json: {cache: false}]
"""


@pytest.fixture
def study(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Call a command of the study in the project; DVC runs as a process of its own."""
    monkeypatch.chdir(project)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    def call(command: str, status: int = 0) -> str:
        return invoke(main, command, "--axes", "axes.yaml", status=status)

    return call


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed default run."""
    directory = tmp_path_factory.mktemp("project")
    for name, text in (("dvc.yaml", STAGES), ("report.py", PROGRAM), ("axes.yaml", AXES)):
        (directory / name).write_text(text, encoding="utf-8")
    (directory / "params.yaml").write_text(PARAMS.read_text(encoding="utf-8"), encoding="utf-8")
    run(directory, "git", "init", "--quiet", "--initial-branch", "main")
    run(directory, "dvc", "init", "--quiet")
    run(directory, "dvc", "repro", "--quiet")
    commit_all(directory, "The default run")
    return directory


def test_a_study_is_queued_run_once_and_collected(project: Path, study: Callable[..., str]) -> None:
    assert "no experiment of the small grid is finished" in study("collect", status=1)
    shown = study("queue").splitlines()
    commands = [line for line in shown if line.startswith("dvc ")]
    assert (
        commands[1] == "dvc exp run --queue --name study-small-sites-both-s0 -S 'prune.sites=[mlp,attention]'"
    )
    assert study("plan").splitlines()[:4] == commands
    assert "queued 4 of 4" in shown[4]
    assert "queued 0 of 4" in study("queue"), "what waits is not queued twice"

    run(project, "dvc", "exp", "run", "--run-all")
    assert "study: 3 of 4 experiments in data/study/small.md" in study("collect")
    with (project / "data/study/small.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["experiment"].removeprefix("study-small-"): row for row in csv.DictReader(file)}
    assert set(rows) == {"draw-default-s0", "sites-both-s0", "rounds-two-s0"}, "one has failed"
    assert rows["sites-both-s0"]["settings"] == "'prune.sites=[mlp,attention]'"
    assert rows["sites-both-s0"]["pruned: news"] == "60.000"
    assert rows["rounds-two-s0"]["removed"] == "0.2000"
    page = (project / "data/study/small.md").read_text(encoding="utf-8")
    assert "| two | 20.0% | 26.00 | 1.300 | 1.300 (code) | 0.500 ± 0.020 |" in page
    assert "Not all draws are done: bad." in page

    again = study("queue")
    assert [line for line in again.splitlines() if line.startswith("dvc ")] == [
        f"{QUEUE} study-small-rounds-bad-s0 -S mask.metric=random"
    ]
    run(project, "dvc", "queue", "remove", "--all")

    (project / "axes.yaml").write_text(AXES.replace("rounds: 2", "rounds: 4"), encoding="utf-8")
    changed = study("queue").splitlines()
    assert changed[0] == "dvc exp remove study-small-rounds-two-s0", "its settings are others now"
    assert changed[1].startswith(
        "dvc exp run --queue --name study-small-rounds-two-s0 -S rounds.r1.progress=0.25"
    )
    assert "study: 2 of 4 experiments" in study("collect")


def test_the_page_can_be_written_again_from_the_table(project: Path, study: Callable[..., str]) -> None:
    before = (project / "data/study/small.md").read_bytes()
    (project / "data/study/small.md").unlink()
    study("page")
    assert (project / "data/study/small.md").read_bytes() == before
