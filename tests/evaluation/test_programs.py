import time
from pathlib import Path

import pytest
import torch

from secateurs.evaluation.programs import run_through, runs_through


def test_a_program_that_ends_well_passes() -> None:
    assert runs_through("assert sorted([2, 1]) == [1, 2]")


@pytest.mark.parametrize(
    "program",
    [
        "assert False",
        "def f(:",
        "import sys; sys.exit(1)",
        "open('big', 'wb').write(bytes(2 << 20))",
        "bytearray(2 << 30)",
        "import os; assert os.environ.get('HOME')",
    ],
)
def test_one_that_does_not_is_told(program: str) -> None:
    assert not runs_through(program)


def test_an_endless_program_is_ended_with_what_it_started(tmp_path: Path) -> None:
    left = tmp_path / "left"
    program = f"""
import subprocess, sys
try:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(8); open({str(left)!r}, 'w')"])
except OSError:
    pass
while True:
    pass
"""
    start = time.monotonic()
    assert not runs_through(program, seconds=1)
    assert time.monotonic() - start < 6
    time.sleep(max(0.0, start + 9 - time.monotonic()))
    assert not left.exists()


def test_programs_run_side_by_side_and_are_told_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    programs = ["import time; time.sleep(2)", "import time; time.sleep(2); assert False"] * 2
    start = time.monotonic()
    assert run_through(programs) == [True, False, True, False]
    assert time.monotonic() - start < 7
