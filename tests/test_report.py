import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from stages.page import main as page
from stages.report import main as report
from stages.reporting.speed import files_of
from tests.project import PARAMS, invoke, invoke_all
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A project in which both stages ran, and what they said; for tests that read it."""
    directory = tmp_path_factory.mktemp("reported")
    set_up(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        return directory, invoke(report) + invoke(page)


@pytest.fixture
def reported(finished: tuple[Path, str]) -> Path:
    return finished[0]


def test_every_picture_the_page_links_is_there(reported):
    text = (reported / "data/report.md").read_text()
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    # Four pictures (all layers keep the same, which is a sentence), and the data of each and of the widths.
    assert len(links) == 9
    assert all((reported / "data" / link).is_file() for link in links)


def test_metrics_are_nested_by_model_then_measure(reported):
    metrics = json.loads((reported / "data/metrics.json").read_text())
    assert list(metrics) == ["dense", "pruned", "ratio", "difference", "calibration"]
    assert metrics["pruned"]["decoder_parameters"] == 800


def test_summary_names_the_pruned_model_and_the_ratios(finished, monkeypatch):
    directory, output = finished
    assert "data/pruned" in output
    monkeypatch.chdir(directory)
    output = invoke(report, "--show")
    assert next(line for line in output.splitlines() if "perplexity" in line).endswith("+25%")


def test_a_difference_stands_with_its_own_error(reported):
    # 12 of 60 items lost: sqrt(0.2 * 0.8 / 59).
    row = next(line for line in (reported / "data/report.md").read_text().splitlines() if "| boolq" in line)
    assert "| -0.200 ± 0.052 | 60 | acc |" in row


def test_samples_are_shown_as_they_are(reported):
    assert "\n     | return `x`\n    ```\n    end" in (reported / "data/report.md").read_text()


def test_a_missing_evaluation_is_one_message(project):
    (project / "data/evaluations/dense/tasks.json").unlink()
    assert "dense/tasks.json: not found" in invoke(report, status=1)


def test_the_first_line_is_the_verdict_and_advice_follows(reported):
    lines = (reported / "data/report.md").read_text().splitlines()
    assert lines[2] == (
        "**20% smaller, 20% fewer multiply-adds a token, perplexity +25%, accuracy -20.0 ± 3.7 points: "
        "a demonstration on 1.50k.**"
    )
    assert lines[4].startswith("- Recover it")


def test_widths_that_are_the_same_are_one_sentence(reported):
    text = (reported / "data/report.md").read_text()
    assert "Every layer keeps 40 of 48 channels (mlp)." in text
    assert "kept_channels.png" not in text


def test_a_second_run_gives_the_same_page(project):
    pages = []
    for _ in range(2):
        invoke_all((report,), (page,))
        pages.append([(project / f"data/report.{kind}").read_bytes() for kind in ("md", "html")])
    assert pages[0] == pages[1]


def times(ratio: float) -> dict[str, Any]:
    phases = ("prefill_ms", "decode_ms_per_token")
    values = {"this": 100 * ratio, "against": 100.0, "ratio": ratio, "lowest": 0.75, "highest": 0.9}
    latency: dict[str, Any] = {name: dict.fromkeys(phases, value) for name, value in values.items()}
    settings = {"prompt_tokens": 8, "decode_tokens": 2, "dtype": "float32", "device": "cpu", "threads": 1}
    return {
        "latency": latency | {"busy": 0.6},
        "memory": {"this": 4e6, "against": 5e6},
        "settings": settings | {"repeats": 9},
    }


def test_times_are_shown_as_long_as_they_are_of_these_checkpoints(project):
    for name in ("model", "pruned"):
        (project / "data" / name).mkdir()
        (project / "data" / name / "model.safetensors").write_bytes(name.encode())
    files = {"dense": files_of(project / "data/model"), "pruned": files_of(project / "data/pruned")}
    (project / "data/timings.json").write_text(json.dumps({"pruned": times(0.8) | {"files": files}}))
    invoke_all((report,), (page,))
    shown = invoke(report, "--show")
    assert "decode in 20% less time" in shown
    assert "0.80 (0.75 to 0.90)" in shown
    assert "busy with something else (60% of its processors)" in shown
    assert "prefill," not in (project / "data/report.md").read_text()
    (project / "data/pruned/model.safetensors").write_bytes(b"another")
    assert "not timed here: `python -m stages.timings`" in invoke(report, "--show")
