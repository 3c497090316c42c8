"""Files and directories that appear under their name at once and whole, whatever is killed when.

What is being made has a name beside the final one, `.<name>.<process>.tmp`; the old version stands until the
new one takes its place in one step, and is on disk.
"""

import ctypes
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from secateurs.files.full_disk import room_for

# `.tmp`: being made, or already replaced. `.old`: the version before, where the two cannot change places.
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)\.(?P<kind>tmp|old)")
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS
_HERE = -100  # AT_FDCWD of Linux


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path`, to be made a file or a directory; put it there when all went well.

    What processes that are gone left beside `path` is cleared away first. There is no moment at which neither
    the old version nor the new one is there, and the new one is flushed to disk before it takes the name.
    Raises InputError, naming `path`, where a disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with room_for(temporary, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            clear_leftovers(path.parent)
            _remove(temporary)
            yield temporary
            _flush(temporary)
            _put(temporary, path)
            _sync(path.parent)
    finally:
        # What cannot be removed, because its disk went away, was said already.
        with suppress(OSError):
            _remove(temporary)


def clear_leftovers(directory: Path) -> None:
    """Delete what processes that no longer run were making; an old version without its new one goes back."""
    for path in directory.iterdir():
        found = _LEFTOVER.fullmatch(path.name)
        if found is None or _is_written(path, int(found["process"])):
            continue
        final = path.with_name(found["name"])
        if found["kind"] == "old" and not os.path.lexists(final):
            path.rename(final)
        else:
            _remove(path)


def _is_written(path: Path, process: int) -> bool:
    """Whether the process that named `path` still runs, and not a later one that was given its number."""
    try:
        return psutil.Process(process).create_time() <= path.lstat().st_mtime
    except (psutil.Error, FileNotFoundError):
        return False


def _put(temporary: Path, path: Path) -> None:
    """Give `temporary` the name `path`; what had it is gone, or has the temporary name."""
    if not os.path.lexists(path) or not (_is_directory(path) or _is_directory(temporary)):
        temporary.replace(path)
    elif not _exchange(temporary, path):
        aside = path.with_name(f".{path.name}.{os.getpid()}.old")
        path.rename(aside)
        temporary.rename(path)
        _remove(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False where the system or its file system cannot."""
    library = ctypes.CDLL(None)
    names = (os.fsencode(one), os.fsencode(other))
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return int(library.renamex_np(*names, ctypes.c_uint(_EXCHANGE))) == 0
    if hasattr(library, "renameat2"):
        return int(library.renameat2(_HERE, names[0], _HERE, names[1], ctypes.c_uint(_EXCHANGE))) == 0
    return False


def _flush(path: Path) -> None:
    """Have a file, or a directory and all in it, written to disk, readable as files usually are."""
    for directory, _, files in os.walk(path) if _is_directory(path) else ():
        for name in files:
            _flush(Path(directory, name))
        _sync(Path(directory))
    if not _is_directory(path):
        make_readable(path)
        _sync(path)


def make_readable(file: Path) -> None:
    """Give a file the rights of a new one: some libraries create theirs for their owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    file.chmod(0o666 & ~mask)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    if _is_directory(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
