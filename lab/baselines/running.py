"""A program run to its end, with the time that it took and its peak memory."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import psutil

from secateurs.errors import InputError

SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class Cost:
    """Wall-clock seconds from start to exit, imports and loading included; most resident bytes."""

    seconds: float
    peak_bytes: int


def run(command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> Cost:
    """Run a command in a directory; memory is that of all its processes together, sampled.

    Raises InputError with the last line of its stderr where it fails.
    """
    start = time.perf_counter()
    with TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        try:
            process = subprocess.Popen(
                command, cwd=directory, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=said
            )
        except OSError as error:
            raise InputError(f"{command[0]}: cannot be started: {error.strerror}") from None
        peaks = [0]
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peaks, done), daemon=True)
        watcher.start()
        try:
            status = process.wait()
        finally:
            # An interrupt of this process must end the program too.
            process.kill()
            done.set()
            watcher.join()
        seconds = time.perf_counter() - start
        if status:
            said.seek(0)
            lines = said.read().strip().splitlines() or [f"exit status {status}"]
            raise InputError(lines[-1].strip())
    return Cost(seconds, peaks[0])


def _watch(number: int, peaks: list[int], done: threading.Event) -> None:
    while not done.wait(SAMPLE_SECONDS):
        try:
            first = psutil.Process(number)
            held = sum(one.memory_info().rss for one in (first, *first.children(recursive=True)))
        except psutil.NoSuchProcess:
            continue
        peaks[0] = max(peaks[0], held)
