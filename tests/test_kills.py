"""Runs of DVC killed at random moments: what is there after resuming is what an undisturbed run leaves."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.project import ENVIRONMENT
from tests.test_rerun import Project, stages_run

pytestmark = pytest.mark.slow
# Up to here outputs depend on nothing but their inputs; evaluations hold times.
RUN = ["dvc", "repro", "surgery"]
KILLS = 10


def outputs(project: Project) -> dict[str, str]:
    """The hash of every output, as dvc.lock has it."""
    lock: dict[str, Any] = YAML(typ="safe").load((project.directory / "dvc.lock").read_text(encoding="utf-8"))
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}


def start_and_kill(project: Project, stages: int, seconds: float, whole: bool) -> bool:
    """Kill DVC some seconds after it has started so many stages, with the stage that runs or alone.

    Returns whether it was still running.
    """
    environment = os.environ | ENVIRONMENT | {"HF_HUB_OFFLINE": "1"}
    del environment["PYTHONPATH"]
    said = project.directory.parent / "said"
    with said.open("w") as log:
        process = subprocess.Popen(
            RUN, cwd=project.directory, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    while process.poll() is None and len(stages_run(said.read_text(encoding="utf-8"))) < stages:
        time.sleep(0.05)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        if whole:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        return True
    assert process.returncode == 0, said.read_text(encoding="utf-8")
    return False


def test_outputs_are_identical_after_kills_and_resuming(tmp_path: Path, dense_dir: Path) -> None:
    projects = []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        projects.append(Project(tmp_path / name, dense_dir))
    whole, killed = projects
    draw = random.Random(18)
    kills = 0
    while kills < KILLS:
        # Every other time the stage outlives DVC and meets the one that the next DVC starts.
        stages, seconds, alone = draw.randint(1, 3), draw.uniform(0.0, 6.0), kills % 2 == 1
        if start_and_kill(killed, stages, seconds, whole=not alone):
            kills += 1
        else:
            # Done before all kills were: once more, from nothing.
            killed.run(["rm", "-rf", "data", "dvc.lock", ".dvc/cache"])
    killed.run(RUN)
    whole.run(RUN)
    assert outputs(killed) == outputs(whole)
    assert "up to date" in killed.run(["dvc", "status", "surgery"])
    files = [file.name for file in (killed.directory / "data").rglob("*")]
    assert not [name for name in files if name.endswith((".tmp", ".old", ".lock"))]
