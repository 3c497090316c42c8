"""Where the time of a stage goes, for `make times`: a note of this machine, and no output of the pipeline."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import psutil

from secateurs.files.json_file import write_json
from stages.common.paths import TIMES

Part = Literal["load", "write"]

_spent: dict[Part, float] = {"load": 0.0, "write": 0.0}
_inside = False


@contextlib.contextmanager
def spent(part: Part) -> Iterator[None]:
    """Count the time inside as spent on `part`; within another one it is counted there alone."""
    global _inside
    if _inside:
        yield
        return
    _inside, begun = True, time.time()
    try:
        yield
    finally:
        _inside = False
        _spent[part] += time.time() - begun


def started() -> float:
    """When this process was started, in seconds since the epoch, before any import."""
    created = psutil.Process().create_time()
    if sys.platform != "linux":
        return created
    # psutil adds the process's ticks to the second in which the machine booted, a whole number.
    return created - psutil.boot_time() + time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def note(begun: float) -> None:
    """Write what the time of the stage that DVC runs here was spent on; by hand, nothing is written.

    begun: when the stage's own code began, in seconds since the epoch; what came before it are imports. DVC's
    part is the time since the stage before ended, or since DVC started.
    """
    name = os.environ.get("DVC_STAGE")
    if name is None or os.environ.get("RANK", "0") != "0":
        return
    run, start, end = _run(), started(), time.time()
    earlier = [one["end"] for one in read_times() if one["run"] == run and one["end"] <= start]
    load, write = _spent["load"], _spent["write"]
    processor = psutil.Process().cpu_times()
    seconds = {
        "dvc": None if run is None else start - max(earlier, default=run),
        "import": begun - start,
        "load": load,
        "compute": end - begun - load - write,
        "write": write,
        "processor": sum((getattr(processor, key, 0.0) for key in _PROCESSOR), 0.0),
    }
    write_json(
        TIMES / f"{name.replace('/', '-').replace(':', '-')}.json",
        {"stage": name, "run": run, "end": end, "seconds": seconds},
    )


# Of this process, and of those that it started and that have ended.
_PROCESSOR = ("user", "system", "children_user", "children_system")


def read_times() -> list[dict[str, Any]]:
    """The notes of all stages, of the last time that each one ran, in the order in which they ended.

    A note that a crash of the machine left unreadable is as good as none: the next run writes it anew.
    """
    notes = []
    for file in TIMES.glob("[!.]*.json"):
        with contextlib.suppress(ValueError):
            notes.append(json.loads(file.read_text(encoding="utf-8")))
    return sorted(notes, key=lambda one: float(one["end"]))


def _run() -> float | None:
    """When the DVC that runs this stage started, which tells one run from another; None without one."""
    with contextlib.suppress(psutil.Error):
        for parent in psutil.Process().parents():
            if any(Path(word).name == "dvc" for word in parent.cmdline()):
                return parent.create_time()
    return None
