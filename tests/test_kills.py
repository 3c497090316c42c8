"""A run killed at many points, DVC alone or with its stage: resuming leaves what no kill would leave."""

import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.project import ENVIRONMENT, change, read_yaml
from tests.test_rerun import Project

pytestmark = pytest.mark.slow
# Up to here outputs depend on nothing but their inputs; evaluations hold times.
RUN = ["dvc", "repro", "surgery"]
ONE_ROUND = {
    "domains": {
        "alpha": {"source": "path", "path": "alpha.txt", "reader": {"format": "lines"}, "documents": 60}
    },
    "mixture": {"alpha": 1.0, "self": 1.0, "dialogues": 0.0},
    "benchmarks": {},
    "rounds": {"r1": {"after": "dense", "progress": 1.0}},
    "surgery.after": "r1",
}


def started(data: Path) -> bool:
    """DVC has started the stage, which imports its libraries."""
    return True


def holds(data: Path) -> bool:
    """A stage has read params.yaml and is at work."""
    return any(data.glob(".locks/*.lock"))


def writes(data: Path) -> bool:
    """An output is being written."""
    return any(data.glob("**/.*.tmp"))


# In an order that DVC keeps to: what does not depend on one another runs in any.
# The stage that is killed, what is waited for besides its start, seconds from there, whether DVC dies alone.
KILLS: list[tuple[str, Callable[[Path], bool], float, bool]] = [
    ("model", started, 0.5, False),
    ("sample", holds, 0.0, True),
    ("corpus", holds, 0.0, True),
    ("capture@r1", holds, 0.3, True),
    ("mask@r1", holds, 0.0, False),
    ("surgery", writes, 0.0, True),
    ("surgery", writes, 0.5, False),
]


def content(folder: Path) -> dict[str, str]:
    """The hash of every file of a folder, by its path there; notes of the time that stages took left out."""
    there = (path for path in folder.rglob("*") if path.is_file() and ".times" not in path.parts)
    files = sorted(path for path in there if path.name != ".gitignore")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def start_and_kill(
    project: Project, stage: str, ready: Callable[[Path], bool], seconds: float, alone: bool
) -> bool:
    """Run DVC and kill it, alone or with its stage, at a point of a stage; False where it was over before."""
    environment = os.environ | ENVIRONMENT | {"HF_HUB_OFFLINE": "1"}
    del environment["PYTHONPATH"]
    said = project.directory.parent / "said"
    with said.open("w") as log:
        process = subprocess.Popen(
            RUN, cwd=project.directory, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    while process.poll() is None:
        ran = re.findall(r"Running stage '(.+)':", said.read_text(encoding="utf-8"))
        if ran[-1:] == [stage] and ready(project.directory / "data"):
            time.sleep(seconds)
            if process.poll() is None:
                (process.kill if alone else lambda: os.killpg(process.pid, signal.SIGKILL))()
                process.wait()
                return True
        time.sleep(0.005)
    assert process.returncode == 0, said.read_text(encoding="utf-8")
    return False


def test_outputs_are_identical_after_kills_and_resuming(tmp_path: Path, dense_dir: Path) -> None:
    projects = []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        project = Project(tmp_path / name, dense_dir)
        project.write(change(read_yaml(project.directory / "params.yaml"), ONE_ROUND))
        projects.append(project)
    whole, killed = projects
    # Side by side: what takes the time is that each stage imports its libraries anew.
    with ThreadPoolExecutor() as pool:
        undisturbed = pool.submit(whole.run, RUN)
        happened = [start_and_kill(killed, *kill) for kill in KILLS]
        killed.run(RUN)
        undisturbed.result()
    # A stage that an orphan has finished may be over before the next kill of it, but not most of them.
    assert sum(happened) >= 5, happened
    assert len({stage for (stage, *_), did in zip(KILLS, happened, strict=True) if did}) >= 5, happened
    assert content(killed.directory / "data") == content(whole.directory / "data")
    assert "up to date" in killed.run(["dvc", "status", "surgery"])
