"""Two processes never make one output at the same time, and nothing is left of a lock."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from secateurs.errors import InputError
from stages.common.locks import hold, release
from tests.project import ROOT

OUTPUT = "data/rounds/r1/masks.safetensors"
# Holds the lock, says so, and waits to be told to end.
HOLDER = f"""
import sys
from pathlib import Path
from stages.common.locks import hold, release
hold(Path("{OUTPUT}"))
print("held", flush=True)
sys.stdin.readline()
release()
"""


def start(folder: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def line(stream: object) -> str:
    assert stream is not None
    return stream.readline().strip()  # type: ignore[attr-defined, no-any-return]


def test_the_second_says_whom_it_waits_for_and_goes_on_when_that_one_ends(tmp_path: Path) -> None:
    first = start(tmp_path)
    assert line(first.stdout) == "held"
    second = start(tmp_path)
    assert line(second.stderr) == (
        f"{OUTPUT}: process {first.pid} is making it, perhaps left over from a run that was stopped; "
        f"waiting for it to end (to end it now: kill {first.pid})"
    )
    assert second.poll() is None
    first.communicate("end\n", timeout=30)
    assert line(second.stdout) == "held"
    second.communicate("end\n", timeout=30)
    assert second.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_third_still_learns_whom_it_waits_for(tmp_path: Path) -> None:
    first = start(tmp_path)
    assert line(first.stdout) == "held"
    others = [start(tmp_path) for _ in range(2)]
    assert [f"process {first.pid} is" in line(one.stderr) for one in others] == [True, True]
    first.communicate("end\n", timeout=30)
    # One after the other, and never both.
    for one in others:
        assert one.stdin is not None
        one.stdin.write("end\n")
        one.stdin.flush()
    assert [one.wait(timeout=60) for one in others] == [0, 0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_another_users_stage_can_take_the_lock_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        first = start(tmp_path)
        assert line(first.stdout) == "held"
    finally:
        os.umask(before)
    (file,) = tmp_path.glob("data/.locks/*.lock")
    assert file.stat().st_mode & 0o777 == 0o666
    first.communicate("end\n", timeout=30)


def test_the_lock_of_a_process_that_was_killed_is_free_at_once(tmp_path: Path) -> None:
    first = start(tmp_path)
    assert line(first.stdout) == "held"
    first.send_signal(signal.SIGKILL)
    first.wait()
    began = time.monotonic()
    second = start(tmp_path)
    assert line(second.stdout) == "held"
    assert time.monotonic() - began < 30
    _, said = second.communicate("end\n", timeout=30)
    assert said == ""


def test_a_stage_of_several_processes_stops_instead_of_waiting(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start(here)
    assert line(first.stdout) == "held"
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=rf"run again when it has ended, or end it: kill {first.pid}$"):
        hold(Path(OUTPUT))
    # The other processes leave the lock to the first one.
    monkeypatch.setenv("RANK", "1")
    hold(Path(OUTPUT))
    first.communicate("end\n", timeout=30)


def test_other_outputs_are_made_meanwhile(here: Path) -> None:
    first = start(here)
    assert line(first.stdout) == "held"
    hold(Path("data/rounds/r2/masks.safetensors"))
    release()
    first.communicate("end\n", timeout=30)
    assert list(here.iterdir()) == []
