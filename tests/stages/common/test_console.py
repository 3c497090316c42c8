"""What a stage shows: one line with how long it took; nothing but text where nobody watches."""

import os
import pty
import re
import subprocess
import sys
import termios

from tests.project import ROOT

# Some stage, with a bar that is on screen for a while.
PROGRAM = """
import time
from secateurs.progress import progress
from stages.common.console import stage, summary

@stage
def main():
    for _ in progress(range(5), "work", "thing"):
        time.sleep(0.15)
    summary("work", "5 things")

main()
"""


def test_a_piped_stage_prints_one_line_with_its_time() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    line = re.fullmatch(r"work: 5 things \((\d+\.\d) s\)\n", done.stdout)
    assert line
    assert float(line[1]) >= 0.75


def test_a_bar_on_a_terminal_has_a_rate_and_a_remaining_time_and_no_colour() -> None:
    shown = on_a_terminal([sys.executable, "-c", PROGRAM], {"NO_COLOR": "1"})
    assert re.search(r"work: +\d+%.*\d+\.\d+ thing/s", shown)
    assert re.search(r"\[00:00<00:0\d", shown)
    # Colours are sequences that end in m; moving the cursor (A, K) is what a bar lives on.
    assert not re.search(r"\x1b\[[0-9;]*m", shown)


# A slow batch, as of a large model, and the bar as it is during the second one.
COUNTING = """
import time
from secateurs.progress import counter

with counter("capture r1", "token", 40_000, thousands=True) as bar:
    time.sleep(0.5)
    bar.update(2_000)
    time.sleep(0.2)
"""


def test_a_count_of_tokens_has_a_rate_from_the_first_batch_on() -> None:
    shown = on_a_terminal([sys.executable, "-c", COUNTING], {"NO_COLOR": "1"})
    assert re.search(r"capture r1: +5%.*2\.00k/40\.0k \[00:00<00:\d\d, \d\.\d+k token/s\]", shown)


def on_a_terminal(command: list[str], environment: dict[str, str]) -> str:
    """What a command writes when its output is a terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other end is closed: the process is done
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()
