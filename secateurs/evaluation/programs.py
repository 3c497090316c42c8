"""Programs that a model wrote, run apart from this one: a process of its own with little time and memory.

That keeps accidents away (endless loops, memory, files left behind), not malice: the process has the user's
rights and the network. So nothing is run unless params.yaml says `evaluate.run_generated_code: true`.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from secateurs.progress import counter

SECONDS = 5
MEMORY_BYTES = 1 << 30
FILE_BYTES = 1 << 20

# Set by the process itself, before the program is read: hard limits cannot be raised again.
_LIMITED = """\
import resource, sys
limits = dict(AS={memory}, CPU={seconds}, FSIZE={file}, NOFILE=64, NPROC=0, CORE=0)
for name, most in limits.items():
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (most, most))
exec(compile(open(sys.argv[1], encoding="utf-8").read(), "program", "exec"), {{"__name__": "__main__"}})
"""


def run_through(programs: Sequence[str]) -> list[bool]:
    """Of each program whether it runs through; as many run at a time as this process has threads.

    What a program takes is the start of its process, or all of its seconds where it never ends.
    """
    found = list[bool]()
    with (
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
        counter("tasks", "programs", len(programs)) as bar,
    ):
        for passed in pool.map(runs_through, programs):
            found.append(passed)
            bar.update()
    return found


def runs_through(program: str, seconds: int = SECONDS) -> bool:
    """Whether a Python program ends without an exception and in time.

    It gets an empty directory and environment, no input, `seconds` of time, 1 GiB of memory, files of at most
    1 MiB, and no process of its own (unless the user is root); what it prints is thrown away. Needs an
    operating system with POSIX limits.
    """
    limited = _LIMITED.format(memory=MEMORY_BYTES, seconds=seconds, file=FILE_BYTES)
    with TemporaryDirectory(prefix="secateurs-program-") as directory:
        file = Path(directory) / "program.py"
        file.write_text(program, encoding="utf-8", errors="replace")
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", limited, str(file)],
            cwd=directory,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return process.wait(timeout=2 * seconds) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            _end_all(process)


def _end_all(process: "subprocess.Popen[bytes]") -> None:
    """End the program and what it may have started, which shares its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
