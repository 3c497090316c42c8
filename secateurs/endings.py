"""How a program ends when it is interrupted or can write no more: by one line, and not with status 0."""

import _thread
import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from secateurs.errors import InputError
from secateurs.files.full_disk import room_for


@contextmanager
def plain_endings() -> Iterator[None]:
    """InputError in it where a disk is full; an interruption that Python would lose comes again.

    A KeyboardInterrupt in the middle of a destructor is printed and dropped, and the program would go on to
    status 0.
    """
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _again
        # While the interpreter is being taken down, nothing is left to interrupt.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    try:
        with room_for("what is written or printed"):
            yield
            # Without a file descriptor for it (`>&-`) there is no stdout at all.
            if sys.stdout is not None:
                sys.stdout.flush()
    except InputError:
        _forget_stdout()
        raise


def _again(lost: Any) -> None:
    if issubclass(lost.exc_type, KeyboardInterrupt):
        # Once this function, in which it would be lost as well, is over.
        threading.Timer(0.05, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(lost)


def _forget_stdout() -> None:
    """Where it is stdout that is full, what is left in its buffer must not be tried again at the end."""
    with suppress(OSError, ValueError):
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
