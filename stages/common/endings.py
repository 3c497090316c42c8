"""How a stage ends when it is interrupted or can write no more: by one line, and not with status 0."""

import _thread
import atexit
import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from secateurs.errors import InputError

# Of a disk, a quota, a limit on the size of a file.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Libraries that write by themselves say it in words.
_SAID = re.compile(
    r"os error (28|122|27)\b|No space left|PytorchStreamWriter failed|requested and \d+ written"
)


@contextmanager
def plain_endings() -> Iterator[None]:
    """InputError in it where a disk is full; an interruption that Python would lose comes again.

    A KeyboardInterrupt in the middle of a destructor is printed and dropped, and the stage would go on to
    status 0.
    """
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _again
        # While the interpreter is being taken down, nothing is left to interrupt.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    try:
        yield
        # Without a file descriptor for it (`>&-`) there is no stdout at all.
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except Exception as error:  # libraries that write have kinds of their own
        if not _is_full(error):
            raise
        where = getattr(error, "filename", None) or "what is written or printed"
        _forget_stdout()
        raise InputError(
            f"{where}: the disk is full, or a limit on it is reached; make room and run the same again: "
            "what has its final name is whole"
        ) from None


def _again(lost: Any) -> None:
    if issubclass(lost.exc_type, KeyboardInterrupt):
        # Once this function, in which it would be lost as well, is over.
        threading.Timer(0.05, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(lost)


def _is_full(error: BaseException) -> bool:
    return getattr(error, "errno", None) in _FULL or bool(_SAID.search(str(error)))


def _forget_stdout() -> None:
    """Where it is stdout that is full, what is left in its buffer must not be tried again at the end."""
    with suppress(OSError, ValueError):
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
