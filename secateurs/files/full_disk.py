"""A disk on which nothing more can be written, whichever library found it so."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from secateurs.errors import InputError

# Of a disk, a quota, a limit on the size of a file.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Libraries that write by themselves, and other programs, say it in words.
_SAID = re.compile(
    r"os error (28|122|27)\b|No space left|PytorchStreamWriter failed|requested and \d+ written"
)


class FullDiskError(InputError):
    """There is no room for a file."""


@contextmanager
def room_for(what: Path | str, shown: Path | None = None) -> Iterator[None]:
    """FullDiskError in it where a disk is full: it names the file that could not be written.

    what: named where no other file is known; shown: what `what`, and all in it, is called.
    """
    try:
        yield
    except Exception as error:  # libraries that write have kinds of their own
        if getattr(error, "errno", None) not in _FULL and not _SAID.search(str(error)):
            raise
        file = Path(getattr(error, "filename", None) or what)
        if shown is not None and Path(what) in (file, *file.parents):
            file = shown
        raise FullDiskError(
            f"{file}: the disk is full, or a limit on it is reached; make room and run the same again: what "
            "has its final name is whole"
        ) from None


def check_room(said: str, file: Path | str) -> None:
    """Raise OSError, as for a file of one's own, where another program says that a disk is full."""
    if _SAID.search(said):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
