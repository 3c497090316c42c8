"""A run killed at many points, DVC alone or with its stage: resuming leaves what no kill would leave."""

import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.project import BINARIES, ENVIRONMENT, change, read_yaml
from tests.test_rerun import Project

pytestmark = pytest.mark.slow
# Up to here outputs depend on nothing but their inputs; evaluations hold times.
RUN = ["dvc", "repro", "surgery"]
PIPELINE = "stages/recovering/dvc.yaml"
RECOVER = ["dvc", "repro", f"{PIPELINE}:recover"]
ONE_ROUND = {
    "domains": {
        "alpha": {"source": "path", "path": "alpha.txt", "reader": {"format": "lines"}, "documents": 60}
    },
    "mixture": {"alpha": 1.0, "self": 1.0, "dialogues": 0.0},
    "benchmarks": {},
    "rounds": {"r1": {"after": "dense", "progress": 1.0}},
    "surgery.after": "r1",
}


def holds(data: Path) -> bool:
    """A stage has read params.yaml and is at work."""
    return any(data.glob(".locks/*.lock"))


def writes(data: Path) -> bool:
    """An output is being written."""
    return any(data.glob("**/.*.tmp"))


def kill_alone(process: int, data: Path) -> None:
    """The stage goes on, as an orphan."""
    os.kill(process, signal.SIGKILL)


def kill_all(process: int, data: Path) -> None:
    """As when the machine goes down."""
    for one in (*stages_at_work(data), process):
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def interrupt(process: int, data: Path) -> None:
    """As Ctrl-C does."""
    for one in (*stages_at_work(data), process):
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGINT)


def stages_at_work(data: Path) -> list[int]:
    """The processes that hold the locks of outputs."""
    held = [path.read_text(encoding="ascii") for path in data.glob(".locks/*.lock")]
    return [int(owner) for owner in held if owner]


# The stage that is killed, what is waited for besides its start, seconds from there, and how.
Kill = tuple[str, Callable[[Path], bool], float, Callable[[int, Path], None]]
# In an order that DVC keeps to: what does not depend on one another runs in any.
KILLS: list[Kill] = [
    ("model", holds, 0.2, kill_all),
    ("sample", holds, 0.0, kill_alone),
    ("corpus", holds, 0.0, kill_alone),
    ("capture@r1", holds, 0.3, kill_alone),
    ("mask@r1", holds, 0.0, kill_all),
    ("surgery", writes, 0.0, kill_alone),
    ("surgery", writes, 0.5, kill_all),
]
# Seconds of training, all of its steps.
LONG_RECOVERY = {"recover.steps": 200, "recover.patience": 99}
RECOVERY_KILLS: list[Kill] = [
    (f"{PIPELINE}:recover", holds, 0.5, interrupt),
    (f"{PIPELINE}:recover", holds, 1.0, kill_all),
    (f"{PIPELINE}:recover", writes, 0.0, kill_alone),
]


def content(folder: Path) -> dict[str, str]:
    """The hash of every file of a folder, by its path there; notes of the time that stages took left out."""
    there = (path for path in folder.rglob("*") if path.is_file() and ".times" not in path.parts)
    files = sorted(path for path in there if path.name != ".gitignore")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def start_and_kill(project: Project, command: list[str], kill: Kill) -> bool:
    """Run DVC and kill it at a point of a stage; False where that was over before."""
    stage, ready, seconds, how = kill
    environment = os.environ | ENVIRONMENT | {"HF_HUB_OFFLINE": "1"}
    del environment["PYTHONPATH"]
    # DVC itself, not a program that stands for one elsewhere, because the one that is started is killed.
    command = [str(BINARIES / command[0]), *command[1:]]
    said = project.directory.parent / "said"
    with said.open("w") as log:
        process = subprocess.Popen(
            command, cwd=project.directory, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    while process.poll() is None:
        ran = re.findall(r"Running stage '(.+)':", said.read_text(encoding="utf-8"))
        if ran[-1:] == [stage] and ready(project.directory / "data"):
            time.sleep(seconds)
            if process.poll() is None:
                how(process.pid, project.directory / "data")
                process.wait()
                assert "Traceback" not in said.read_text(encoding="utf-8")
                return True
        time.sleep(0.005)
    assert process.returncode == 0, said.read_text(encoding="utf-8")
    return False


@pytest.fixture(scope="module")
def projects(
    tmp_path_factory: pytest.TempPathFactory, dense_dir: Path, quick_dvc: None
) -> tuple[Project, Project]:
    """Two projects alike, of which the second will be killed."""
    made = []
    for name in ("whole", "killed"):
        folder = tmp_path_factory.mktemp(name)
        project = Project(folder, dense_dir)
        params = read_yaml(project.directory / "params.yaml")
        project.write(change(params, ONE_ROUND | LONG_RECOVERY))
        made.append(project)
    return made[0], made[1]


def beside(whole: Project, killed: Project, command: list[str], kills: list[Kill]) -> list[bool]:
    """Run a command in both, in one of them through all kills; which of them happened."""
    with ThreadPoolExecutor() as pool:
        undisturbed = pool.submit(whole.run, command)
        happened = [start_and_kill(killed, command, kill) for kill in kills]
        killed.run(command)
        undisturbed.result()
    return happened


def test_outputs_are_identical_after_kills_and_resuming(projects: tuple[Project, Project]) -> None:
    happened = beside(*projects, RUN, KILLS)
    # A stage that an orphan has finished may be over before the next kill of it, but not most of them.
    assert sum(happened) >= 5, happened
    assert len({stage for (stage, *_), did in zip(KILLS, happened, strict=True) if did}) >= 5, happened
    whole, killed = projects
    assert content(killed.directory / "data") == content(whole.directory / "data")
    assert "up to date" in killed.run(["dvc", "status", "surgery"])


def test_so_are_those_of_a_recovery(projects: tuple[Project, Project]) -> None:
    for project in projects:
        project.enable("recovering")
        project.run(["dvc", "repro", f"{PIPELINE}:corpus"])
    happened = beside(*projects, RECOVER, RECOVERY_KILLS)
    assert sum(happened) >= 2, happened
    whole, killed = projects
    assert content(killed.directory / "data/recovered") == content(whole.directory / "data/recovered")
    assert "up to date" in killed.run(["dvc", "status", f"{PIPELINE}:recover"])
