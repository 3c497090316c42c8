import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stages.page import main as page
from stages.report import main as report
from tests.project import PARAMS
from tests.stages.reporting.evidence import write_evidence


def set_up(directory: Path) -> None:
    """Make of a directory a project as the evaluations leave it."""
    shutil.copy(PARAMS, directory / "params.yaml")
    write_evidence(directory / "data")
    # The default run's last round.
    shutil.copytree(directory / "data/rounds/r2", directory / "data/rounds/r3")


@pytest.fixture
def project(here: Path) -> Path:
    set_up(here)
    return here


def run() -> Result:
    """Both stages; the first's outcome, or the second's where that went well."""
    first = CliRunner().invoke(report)
    return CliRunner().invoke(page) if first.exit_code == 0 else first


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A project in which both stages ran, and what they said; for tests that read it."""
    directory = tmp_path_factory.mktemp("reported")
    set_up(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        return directory, run()


@pytest.fixture
def reported(finished: tuple[Path, Result]) -> Path:
    directory, result = finished
    assert result.exit_code == 0, result.output
    return directory


def test_every_picture_the_page_links_is_there(reported):
    text = (reported / "data/report.md").read_text()
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    # Five pictures, and the data of each.
    assert len(links) == 10
    assert all((reported / "data" / link).is_file() for link in links)


def test_metrics_are_nested_by_model_then_measure(reported):
    metrics = json.loads((reported / "data/metrics.json").read_text())
    assert list(metrics) == ["dense", "pruned", "ratio", "difference", "calibration"]
    assert metrics["pruned"]["decoder_parameters"] == 800


def test_summary_names_the_pruned_model_and_the_ratios(finished, monkeypatch):
    directory, result = finished
    assert "data/pruned" in result.output
    monkeypatch.chdir(directory)
    output = CliRunner().invoke(report, ["--show"]).output
    assert next(line for line in output.splitlines() if "perplexity" in line).endswith("1.250")


def test_a_difference_stands_with_its_own_error(reported):
    # 12 of 60 items lost: sqrt(0.2 * 0.8 / 59).
    row = next(line for line in (reported / "data/report.md").read_text().splitlines() if "| boolq" in line)
    assert "| -0.200 ± 0.052 | 60 | acc |" in row


def test_samples_are_shown_as_they_are(reported):
    assert "\n     | return `x`\n    ```\n    end" in (reported / "data/report.md").read_text()


def test_a_missing_evaluation_is_one_message(project):
    (project / "data/evaluations/dense/tasks.json").unlink()
    result = run()
    assert result.exit_code == 1
    assert "dense/tasks.json: not found" in result.output
    assert "Traceback" not in result.output


def test_times_have_their_range_and_a_busy_machine_is_named(reported):
    text = (reported / "data/report.md").read_text()
    assert "prefill 0.75 to 0.90; decode 0.70 to 1.10, so no difference is shown." in text
    assert "busy with something else (60% of its processors)" in text
