"""A stage that is interrupted, or that can write no more, ends by one line and not with status 0."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bad_inputs.local import local_params, make_project
from tests.project import ROOT

FULL = (
    "the disk is full, or a limit on it is reached; make room and run the same again: what has its final "
    "name is whole"
)
# Interrupted where Python drops an interruption: in a destructor.
LOST = """
import os, signal, time
from stages.common.console import stage, summary

class Interrupts:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

@stage
def main():
    Interrupts()
    time.sleep(5)
    summary("work", "all of it")

main()
"""
DONE = """
from stages.common.console import stage, summary

@stage
def main():
    summary("work", "all of it")

main()
"""
LATE = f"""
import atexit, os, signal, time
atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(0.1)))
{DONE}
"""


# Interrupted by itself while it imports what it needs.
EARLY = """
import os, signal, sys
import {module}
os.kill(os.getpid(), signal.SIGINT)
import time; time.sleep(5)
"""


def run(arguments: list[str], root: Path, **options: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True, check=False, **options
    )


def interruptible() -> None:
    """What a shell starts in the background ignores interruptions, and so does all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interruption_that_python_drops_ends_the_stage(tmp_path: Path) -> None:
    done = run(["-c", LOST], tmp_path, stdout=subprocess.PIPE, preexec_fn=interruptible)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == "Aborted!"


def test_an_interruption_after_the_last_line_changes_nothing(tmp_path: Path) -> None:
    done = run(["-c", LATE], tmp_path, stdout=subprocess.PIPE, preexec_fn=interruptible)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("work: all of it")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_output_that_is_full_is_said_once(tmp_path: Path, dense_dir: Path) -> None:
    make_project(tmp_path, local_params(dense_dir))
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = run(["-m", "stages.plan"], tmp_path, stdout=full)
    assert (done.returncode, done.stderr.splitlines()) == (1, [f"Error: what is written or printed: {FULL}"])


def test_a_stage_without_a_stdout_does_its_work(tmp_path: Path) -> None:
    done = run(["-c", DONE], tmp_path, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")


def limited(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize(("stage", "size"), [("model", 20_000), ("model", 900), ("sources", 500)])
def test_a_full_disk_leaves_nothing_behind(stage: str, size: int, tmp_path: Path, dense_dir: Path) -> None:
    make_project(tmp_path, local_params(dense_dir))
    arguments = ["-m", f"stages.{stage}", *(["tales"] if stage == "sources" else [])]
    done = run(arguments, tmp_path, stdout=subprocess.PIPE, preexec_fn=limited(size))
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert last.endswith(f": {FULL}")
    assert "Traceback" not in done.stderr
    left = [
        path.name for path in (tmp_path / "data").rglob("*") if path.is_file() and ".locks" not in path.parts
    ]
    assert left == []


@pytest.mark.parametrize("module", ["stages", "lab", "secateurs.cli"])
def test_an_interruption_while_a_program_imports_is_one_line(module: str, tmp_path: Path) -> None:
    done = run(["-c", EARLY.format(module=module)], tmp_path, preexec_fn=interruptible)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "Aborted!\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize(
    "command",
    [
        ["-m", "secateurs.cli", "--help"],
        ["-m", "secateurs.cli", "prune", "--help"],
        ["-m", "stages.chat", "--help"],
        ["-m", "stages"],
        ["-m", "lab.study.__main__", "--help"],
    ],
    ids=" ".join,
)
def test_a_full_stdout_is_one_line_wherever_it_is_found(command: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(command, tmp_path, stdout=full)
    assert (done.returncode, done.stderr) == (1, f"Error: what is written or printed: {FULL}\n")


def test_other_errors_of_a_program_keep_their_traceback(tmp_path: Path) -> None:
    done = run(["-c", "import stages; 1 / 0"], tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_a_terminal_obeys_nothing_that_the_command_says(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("one", encoding="utf-8")
    arguments = ["gone\x1b[2J", "--text", "t.txt", "--out", "small"]
    done = run(["-m", "secateurs.cli", "prune", *arguments], tmp_path, stdout=subprocess.PIPE)
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stdout.startswith("gone\N{REPLACEMENT CHARACTER}[2J is pruned by")


def test_what_an_encoding_lacks_is_a_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    (tmp_path / "t.txt").write_text("one", encoding="utf-8")
    done = run(["-m", "secateurs.cli", "prune", "a b", "--text", "t.txt", "--out", "\u00f6"], tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_letters_that_python_cannot_take_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    done = run(["-m", "secateurs.cli", "prune", "m\u00f6del", "--text", "t.txt", "--out", "x"], tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("Python takes arguments as ASCII here; set PYTHONUTF8=1\n")
