"""One process at a time for each output: DVC's own lock ends with DVC, a stage that it started may not."""

import contextlib
import os
from pathlib import Path

import click
from filelock import FileLock, Timeout

from secateurs.errors import InputError
from secateurs.files.full_disk import room_for
from stages.common.paths import DATA

LOCKS = DATA / ".locks"
_held: list[FileLock] = []


def hold(output: Path) -> None:
    """Be the only process that makes `output` until `release`; where another one does, say so and wait.

    A stage of several processes holds it with its first one, and stops instead of waiting, because the others
    would not wait for that one as long. The lock of a process that dies is free at once. Raises InputError.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    file = LOCKS / f"{'-'.join(output.parts)}.lock"
    lock = _lock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        owner = _owner(file)
        said = f"{output}: process {owner} is making it, perhaps left over from a run that was stopped"
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError(f"{said}; run again when it has ended, or end it: kill {owner}") from None
        click.echo(f"{said}; waiting for it to end (to end it now: kill {owner})", err=True)
        while not lock.is_locked:
            file.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(Timeout, FileNotFoundError):
                lock.acquire(timeout=60)
    # First of all, so that it is released too where its name cannot be written, because the disk is full.
    _held.append(lock)
    with room_for(file):
        file.write_text(str(os.getpid()), encoding="ascii")


def _lock(file: Path) -> FileLock:
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(file, mode=0o666)


def _owner(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip() or "unknown"
    except OSError:
        return "unknown"


def release() -> None:
    """Give free what this process holds, and leave no file behind."""
    while _held:
        lock = _held.pop()
        # While it is held: who waits for a file that is gone makes a new one.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
    for folder in (LOCKS, DATA):
        with contextlib.suppress(OSError):
            folder.rmdir()
