"""The time of a stage that DVC runs is taken apart and kept; one that is run by hand leaves nothing."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lab.results import page
from stages import stage_seconds
from stages.common.paths import BENCH, TIMES
from stages.common.stopwatch import read_times
from tests.project import PARAMS, ROOT, invoke

# A stage with 0.3 s of imports, 0.2 of loading, 0.4 of computing, 0.5 of writing, in which it reads too.
STAGE = """
import time
from stages.common.console import stage
from stages.common.stopwatch import spent
time.sleep(0.3)

@spent("load")
def load(seconds):
    time.sleep(seconds)

@stage
def main():
    load(0.2)
    time.sleep(0.4)
    with spent("write"):
        load(0.5)

main()
"""
# What DVC does of interest here: it has its name, says which stage it runs, and is slow between two.
DVC = """
import os, subprocess, sys, time
for name in ("capture@r1", "stages/exporting/dvc.yaml:export"):
    time.sleep(0.25)
    subprocess.run([sys.executable, "stage.py"], env=os.environ | {"DVC_STAGE": name}, check=True)
"""


def run(folder: Path, file: str, text: str) -> None:
    (folder / file).write_text(text, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, file], cwd=folder, env=environment, check=True)


@pytest.fixture
def notes(here: Path) -> list[dict[str, Any]]:
    """What two stages left that ran one after the other."""
    (here / "stage.py").write_text(STAGE, encoding="utf-8")
    run(here, "dvc", DVC)
    return read_times()


def test_each_part_has_the_time_that_it_took(notes: list[dict[str, Any]]) -> None:
    assert [one["stage"] for one in notes] == ["capture@r1", "stages/exporting/dvc.yaml:export"]
    assert notes[0]["end"] < notes[1]["end"] < time.time()
    for one in notes:
        seconds = one["seconds"]
        least = {"dvc": 0.2, "import": 0.3, "load": 0.2, "compute": 0.4, "write": 0.5}
        # The kernel counts a process's beginning in hundredths of a second.
        assert all(seconds[part] > wanted - 0.02 for part, wanted in least.items())
        # What is read while it is written is written.
        assert seconds["load"] < seconds["write"]
        assert 0 < seconds["processor"] < sum(seconds[part] for part in least)
    whole = notes[1]["end"] - notes[0]["end"]
    assert sum(notes[1]["seconds"][part] for part in least) == pytest.approx(whole, abs=0.02)


def test_a_stage_run_by_hand_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    run(tmp_path, "stage.py", STAGE)
    assert not (tmp_path / "data").exists()


def write_note(stage: str, end: float, dvc: float | None) -> None:
    seconds = {"dvc": dvc, "import": 4.0, "load": 1.0, "compute": 20.0, "write": 0.5, "processor": 40.0}
    TIMES.mkdir(parents=True, exist_ok=True)
    note = {"stage": stage, "run": 1.0, "end": end, "seconds": seconds}
    (TIMES / f"{stage}.json").write_text(json.dumps(note), encoding="utf-8")


def test_the_table_has_a_row_for_each_stage_and_their_sum(here: Path) -> None:
    write_note("surgery", 200.0, None)
    write_note("model", 100.0, 2.25)
    (TIMES / "sample.json").write_text("", encoding="utf-8")  # what a crash of the machine may leave
    assert invoke(stage_seconds.main).splitlines() == [
        "stage, seconds        DVC     import       load    compute      write        all  processor",
        "model                 2.2        4.0        1.0       20.0        0.5       27.8       40.0",
        "surgery                 -        4.0        1.0       20.0        0.5       25.5       40.0",
        "all stages            2.2        8.0        2.0       40.0        1.0       53.2       80.0",
    ]


def test_before_any_run_the_table_says_what_to_run(here: Path) -> None:
    message = "Error: data/.times: no stage has run here yet; run `make repro`"
    assert message in invoke(stage_seconds.main, status=1)


def test_figures_that_were_kept_are_on_the_page_of_results(here: Path) -> None:
    shutil.copy(PARAMS, here)
    (here / "data/bench").mkdir(parents=True)
    for name in ("metrics.json", "study", "baselines"):
        (here / "data" / name).symlink_to(ROOT / "data" / name)
    write_note("model", 100.0, 2.25)
    invoke(stage_seconds.main, "--out", str(BENCH / "run-default.json"))
    assert "| model | 2.2 | 4.0 | 1.0 | 20.0 | 0.5 | 27.8 | 40.0 |" in page()
