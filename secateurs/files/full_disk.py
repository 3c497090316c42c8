"""Files that cannot be written, or not be got at: the disk is full, or it, or a folder, refuses."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from secateurs.errors import InputError

# Of a disk, a quota, a limit on the size of a file.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Of a path that cannot be used as it is, whoever makes the room.
_REFUSED = {
    *(
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOTDIR,
        errno.EEXIST,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ELOOP,
    ),
}
# Libraries that write by themselves, and other programs, say it in words.
_SAID = re.compile(
    r"os error (28|122|27)\b|No space left|PytorchStreamWriter failed|requested and \d+ written"
)


class FullDiskError(InputError):
    """There is no room for a file."""


@contextmanager
def room_for(what: Path | str, shown: Path | None = None) -> Iterator[None]:
    """FullDiskError in it where a disk is full: it names the file that could not be written.

    InputError where a file, or its folder, is of another kind or refuses. what: named where no other file is
    known; shown: what `what`, and all in it, is called.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # libraries that write have kinds of their own
        refused = isinstance(error, OSError) and error.errno in _REFUSED
        if not refused and getattr(error, "errno", None) not in _FULL and not _SAID.search(str(error)):
            raise
        file = Path(getattr(error, "filename", None) or what)
        if shown is not None and Path(what) in (file, *file.parents):
            file = shown
        if isinstance(error, OSError) and refused:
            remedy = "change the rights or the kind of it and of its folders, or name another"
            raise InputError(f"{file}: cannot be read or written: {error.strerror}; {remedy}") from None
        raise FullDiskError(
            f"{file}: the disk is full, or a limit on it is reached; make room and run the same again: what "
            "has its final name is whole"
        ) from None


def check_writable(path: Path) -> None:
    """Raise InputError where nothing can be made at `path`, before it takes hours to know what."""
    there = next(one for one in (*path.parents, Path()) if os.path.lexists(one))
    name = path.name if there == path.parent else path.relative_to(there).parts[0]
    probe = there / f".{name}.{os.getpid()}.tmp"
    with room_for(probe, path):
        probe.mkdir()
        probe.rmdir()


def check_room(said: str, file: Path | str) -> None:
    """Raise OSError, as for a file of one's own, where another program says that a disk is full."""
    if _SAID.search(said):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
