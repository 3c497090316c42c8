"""Every stage and tool on a run whose `benchmarks` is empty."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.project import change, read_yaml
from tests.test_kills import ONE_ROUND, PIPELINE
from tests.test_rerun import Project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, dense_dir: Path, quick_dvc: None) -> Project:
    made = Project(tmp_path_factory.mktemp("without"), dense_dir)
    made.write(change(read_yaml(made.directory / "params.yaml"), ONE_ROUND))
    made.run(["dvc", "repro"])
    made.enable("recovering")
    made.run(["dvc", "repro", PIPELINE])
    made.commit()
    return made


@pytest.mark.parametrize(
    "command",
    [
        ["python", "-m", "stages.report", "--show"],
        ["python", "-m", "stages.timings"],
        ["python", "-m", "stages.timings", "recovered"],
        ["python", "-m", "stages.sweep"],
    ],
    ids=lambda command: " ".join(command[2:]),
)
def test_a_tool_says_what_there_is(project: Project, command: list[str]) -> None:
    said = project.run(command)
    assert said
    assert "nan" not in said
    assert "accuracy, mean" not in said


def test_a_comparison_has_the_perplexity_that_changed(project: Project) -> None:
    metrics = project.directory / "data/metrics.json"
    before = metrics.read_text(encoding="utf-8")
    metrics.write_text(before.replace('"geometric_mean": ', '"geometric_mean": 1'), encoding="utf-8")
    said = project.run(["python", "-m", "stages.report", "--compare", "HEAD"])
    metrics.write_text(before, encoding="utf-8")
    assert "perplexity" in said
    assert "are not numbers" not in said


@pytest.mark.parametrize("name", ["pruned", "recovered"])
def test_the_card_has_the_results_that_there_are(project: Project, name: str) -> None:
    card = ModelCard.load(project.directory / "data/published" / name / "README.md")
    assert [one.dataset_name for one in card.data.eval_results] == ["alpha, held-out text"]
    assert "Zero-shot" not in card.content
    assert "nan" not in card.content
